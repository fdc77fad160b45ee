"""What every test runs under, set before any heavy library is imported."""

from __future__ import annotations

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
