"""The embedded model on one thread: seconds to load it after the imports, and seconds of CPU a picture.

    .venv/bin/python benchmarks/embedded_generator.py

What it draws is measured by ``examples/train_embedded_model.py``, whose figures stand in the model's card.
"""

from __future__ import annotations

import statistics
import time

import diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl  # noqa: F401

from safelight.generators.embedded import STEPS, EmbeddedGenerator
from safelight.request import GenerationRequest, Principal

PICTURES = 10


def main() -> None:
    """Print both figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    generator = EmbeddedGenerator()
    print(f"load after imports  {time.perf_counter() - wall:.2f} s, of which {time.process_time() - cpu:.2f} s of CPU")
    seconds = []
    for seed in range(PICTURES):
        cpu = time.process_time()
        generator.generate(
            GenerationRequest("a red teapot on a table", Principal("anybody"), seed=seed), lambda step, steps: None
        )
        seconds.append(time.process_time() - cpu)
    print(f"a picture           {statistics.median(seconds):.2f} s of CPU at {STEPS} steps, enlarged to 512 x 512")


if __name__ == "__main__":
    main()
