from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from gateway_process import command, configured, ended, environment, started
from safelight.store.sqlite import SQLiteStore


def test_the_command_serves_and_says_what_runs(tmp_path: Path) -> None:
    file, token = configured(tmp_path)
    with started(file) as (process, address):
        response = httpx.post(
            f"{address}/v1/images/generations",
            headers={"authorization": f"Bearer {token}"},
            json={"prompt": "a canary", "response_format": "url"},
        )
        assert response.status_code == 200
        assert httpx.get(response.json()["data"][0]["url"]).status_code == 200
        process.send_signal(signal.SIGTERM)
        out, err = ended(process)
    assert process.returncode == 0
    assert "words" in out and "markers" in out and "painter" in out
    assert "POST /v1/images/generations 200" in err
    for secret in ("canary", token, "sig="):
        assert secret not in out + err


def test_a_request_that_is_worked_on_is_finished_before_the_end(tmp_path: Path) -> None:
    file, token = configured(tmp_path, "PatientPainter")
    with started(file) as (process, address):
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as connection:
            body = b'{"prompt": "a teapot"}'
            head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            _await_turn(tmp_path / "store.db")
            process.send_signal(signal.SIGTERM)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200") and b"b64_json" in answer
        assert process.wait(20) == 0


def _await_turn(file: Path) -> None:
    store = SQLiteStore(file)
    until = time.monotonic() + 20
    while not store.decisions():
        assert time.monotonic() < until, "no request arrived"
        time.sleep(0.01)
    store.close()


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    file, _ = configured(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command(file, "--port", port), env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and f"127.0.0.1:{port}" in done.stderr


def test_a_missing_library_is_told_in_one_line(tmp_path: Path) -> None:
    file, _ = configured(tmp_path)
    # What Python does where the library is not installed.
    without = f"import sys; sys.modules['fastapi'] = None; sys.argv[1:] = ['--config', {str(file)!r}, 'gateway',"
    code = f"{without} '--port', '0']; from safelight.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "safelight: the gateway needs fastapi: pip install 'safelight[gateway]'\n"


def test_the_help_loads_no_server_library() -> None:
    code = (
        "import sys\nfrom safelight.cli import _parser\n_parser()\n"
        "print(sorted({'fastapi', 'starlette', 'uvicorn', 'pybase64'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[]\n"
