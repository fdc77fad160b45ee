"""What every test runs under, set before any heavy library is imported."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

# Two threads that spin on two busy cores make one tiny picture twenty times slower than one thread does.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# A developer's own keys and settings must not reach a test.
for name in [*os.environ]:
    if name.startswith("SAFELIGHT_") or name.endswith("_API_KEY"):
        del os.environ[name]

# Speed is for benchmarks; a loaded machine is no failure.
settings.register_profile("safelight", deadline=None)
settings.load_profile("safelight")

# While the tests are imported there is no garbage, but a million things to look through.
gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what the libraries are made of, which stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 20)
    gc.enable()
