from __future__ import annotations

import subprocess
import sys

import safelight

HEAVY = ("torch", "diffusers", "transformers", "litellm", "fastapi", "gradio", "onnxruntime", "openai", "psycopg")


def test_importing_safelight_loads_nothing_heavy() -> None:
    code = f"import sys, safelight; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_command_lines_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom safelight.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "[]"


def test_the_public_names_are_complete_and_sorted() -> None:
    assert safelight.__all__ == sorted(safelight.__all__)
    ours = {name for name, value in vars(safelight).items() if getattr(value, "__module__", "").startswith("safelight")}
    assert ours == set(safelight.__all__)
