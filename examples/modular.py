"""Guard a modular diffusers pipeline with two blocks: the first judges what goes in, the last what comes out.

    python examples/modular.py "a blue boat on the sea" "a red teapot" --out pictures

It draws with the embedded sample model, so that nothing is downloaded and the pictures are of 64 x 64 pixels. Every
prompt is its own; where one is blocked, its picture is black and the others are as they would have been.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusers import StableDiffusionXLAutoBlocks

from safelight.config import build_guard, read_settings
from safelight.generators.embedded import STEPS, load
from safelight.guard import Guard
from safelight.modular import ImageGuardBlock, PromptGuardBlock
from safelight.store import open_store


def main(argv: list[str] | None = None) -> None:
    """Read the arguments, ask for the pictures, save them, and say what was ruled on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="a folder")
    parser.add_argument("--config", help="the configuration; by default safelight.toml if it is there")
    args = parser.parse_args(argv)
    settings = read_settings(args.config)
    store = open_store(settings.store_url)
    try:
        draw(args.prompts, build_guard(settings, store), args.out)
    finally:
        store.close()


def draw(prompts: list[str], guard: Guard, folder: Path) -> None:
    """Ask a guarded modular pipeline for a picture of each prompt."""
    blocks = StableDiffusionXLAutoBlocks()
    blocks.sub_blocks.insert("prompt_guard", PromptGuardBlock(guard), 0)
    blocks.sub_blocks.insert("image_guard", ImageGuardBlock(), len(blocks.sub_blocks))
    pipe = blocks.init_pipeline()
    parts = load().components
    pipe.update_components(**{name: parts[name] for name in pipe.component_names if parts.get(name) is not None})

    state = pipe(prompt=prompts, width=64, height=64, num_inference_steps=STEPS)
    folder.mkdir(parents=True, exist_ok=True)
    for place, (picture, decision) in enumerate(zip(state.get("images"), state.get("decisions"), strict=True)):
        picture.save(folder / f"{place}.png")
        print(f"{place}.png: {decision.action} ({decision.stage}, {decision.reason}), {decision.id}")


if __name__ == "__main__":
    main()
