"""Guard a modular diffusers pipeline with two blocks: the first judges what goes in, the last what comes out.

    python examples/modular.py "a lighthouse in the fog" "a zorblax" --out pictures

It draws with the embedded sample model, so the pictures are noise; a policy that forbids one harmless word shows what
becomes of a blocked prompt in a list. It needs the extra ``diffusers`` and nothing from a model hub.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionXLAutoBlocks

from safelight import Guard, Policy
from safelight.generators.tiny_sdxl import build
from safelight.modular import ImageGuardBlock, PromptGuardBlock
from safelight.screens.open_nsfw import OpenNSFWScreen
from safelight.screens.terms import TermsScreen
from safelight.store.sqlite import SQLiteStore
