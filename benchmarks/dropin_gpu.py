"""What guarding SDXL costs on a GPU, how late a stop comes there, and what a stopped call leaves in its memory.

    python benchmarks/dropin_gpu.py [--rounds 7] [--size 1024] [--steps 30]

SDXL at its true size with random weights in float16: the times are true and the pictures are noise. Nothing is
downloaded. It needs about 24 GB of GPU memory, for a plain pipeline and a guarded one. What is compared, and how, is
said in ``dropin.py``.

Python runs ahead of a GPU. While a ruling is awaited, the drop-in keeps it within two steps; the rows ``not kept pace``
leave that out, and show what it costs and how late a stop would come without it. ``device free`` is when the GPU has
finished what it was given before the stop.

``--tiny`` runs the script itself anywhere: a tiny SDXL on the CPU, where neither pace nor memory mean anything.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from dropin_rows import (
    AGAIN,
    CALLBACK,
    GUARDED,
    PLAIN,
    PROMPT,
    Rounds,
    Row,
    StepClock,
    TimedJudge,
    a_guard,
    baseline,
    measured,
    report_allow,
    report_block,
    report_overhead,
    spread,
)

# The untrained model is that of the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
import safelight
from safelight.dropin.beside import Beside
from safelight.dropin.previews import Previews
from tiny_sdxl import build

STOPPED_CALLS = 20
SHARES = (0.25, 0.5, 0.9)
UNPACED = ", not kept pace"

# The published configurations of SDXL base 1.0.
UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
TEXT_2 = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}


def true_sdxl(device: str, dtype: torch.dtype) -> Any:
    """Return SDXL at its true size with random weights, on a device."""
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tiny = build()
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        # Made where they stay: 3.5 billion numbers are drawn there in no time.
        with torch.device(device):
            parts = {
                "unet": UNet2DConditionModel(**UNET),
                "vae": AutoencoderKL(**VAE),
                "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
                "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2)),
            }
    finally:
        torch.set_default_dtype(usual)
    for part in parts.values():
        part.eval()
    # Its tokenizer reads bytes: the texts are longer, and are padded to 77 tokens in any case.
    others = {name: tiny.components[name] for name in ("tokenizer", "tokenizer_2", "scheduler")}
    return StableDiffusionXLPipeline(**parts, **others, add_watermarker=False)


@contextmanager
def pace_not_kept() -> Iterator[None]:
    """Let Python run ahead of the device as far as it can."""
    with patch.object(Beside, "_keep_pace", lambda self, latents: None):
        yield


class Bench:
    """A plain pipeline, a guarded one that looks like it, and the rows that are timed with them.

    Args:
        make: Makes a pipeline.
        folder: Where the store is put.
        size: Of the pictures, and how many steps.
        device: Where the pipelines are.
        rounds: How often everything is timed.
    """

    def __init__(
        self, make: Callable[[], Any], folder: str, *, size: Mapping[str, int], device: str, rounds: int
    ) -> None:
        self.judge, self.clock = TimedJudge(), StepClock()
        self.size, self.device, self.rounds = size, device, rounds
        self.plain, self.guarded = make(), make()
        for pipe in (self.plain, self.guarded):
            pipe.set_progress_bar_config(disable=True)
        self.guard = a_guard(self.judge, folder)
        safelight.protect(self.guarded, self.guard)

    def wait(self) -> None:
        """Wait until the device has nothing left to do."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def plain_rows(self) -> list[Row]:
        """Return what the others are compared with."""
        arguments = {"callback_on_step_end": self.clock, "callback_on_step_end_tensor_inputs": []}
        return [Row(PLAIN, self.plain), Row(AGAIN, self.plain), Row(CALLBACK, self.plain, arguments=arguments)]

    def take(self, rows: Sequence[Row]) -> Rounds:
        """Time the rows."""
        found = [*self.plain_rows(), *rows]
        return measured(found[0], found, self.judge, rounds=self.rounds, size=self.size, wait=self.wait)


def report_times(bench: Bench) -> None:
    """Print what guarding costs, how much of a judge's time it hides, and how late a stop comes."""
    allow = [Row(f"judge of {share:.0%}", bench.guarded, share) for share in SHARES]
    block = [Row(f"block after {share:.0%}", bench.guarded, share, blocks=True) for share in SHARES]
    unpaced = [
        Row(f"{row.name}{UNPACED}", row.pipe, row.share, blocks=row.blocks, under=pace_not_kept)
        for row in (allow[-1], *block)
    ]
    rows = [Row(GUARDED, bench.guarded), *allow, *block, *unpaced]
    rounds = bench.take(rows)
    step_s = bench.clock.step_s()
    plain = [baseline(found) for found in rounds]
    print(f"plain: {spread((took.wall * 1e3 for took in plain), 0)} ms")
    report_overhead(rounds, [*bench.plain_rows(), rows[0]])
    report_allow(rounds, [*allow, unpaced[0]])
    report_block(rounds, [*block, *unpaced[1:]], step_s)
    print("device free, steps after the judge's answer")
    for row in (*block, *unpaced[1:]):
        print(f"  {row.name:34} {spread(((f[row.name].idle - f[row.name].judge) / step_s for f in rounds), 2)}")


def report_previews(bench: Bench) -> None:
    """Print what two looks at half-made pictures cost."""
    safelight.protect(bench.guarded, bench.guard, previews=Previews())
    row = Row("guarded, two previews", bench.guarded)
    report_overhead(bench.take([row]), [row])
    safelight.protect(bench.guarded, bench.guard)


def report_memory(bench: Bench, calls: int) -> None:
    """Print what stopped calls leave in the device's memory before any garbage is collected."""
    print("\ndevice memory in use, MiB, without the garbage collector's help")
    bench.judge.seconds, bench.judge.blocks, bench.judge.work = 0.0, False, None
    bench.guarded(PROMPT, **bench.size)
    before = memory_mib(bench.device)
    print(f"  after an allowed call             {before:9.1f}")
    # Stopped in the middle: the judge answers after about half of the steps.
    begun = time.perf_counter()
    bench.guarded(PROMPT, **bench.size)
    bench.judge.seconds, bench.judge.blocks = (time.perf_counter() - begun) / 2, True
    gc.collect()
    gc.disable()
    try:
        for count in range(calls):
            output = bench.guarded(PROMPT, **bench.size)
            if output.nsfw_content_detected != [True]:
                raise RuntimeError("a call was not blocked")
            if count in (0, calls - 1):
                known = memory_mib(bench.device)
                print(f"  after {count + 1:2} stopped                  {known:9.1f}")
    finally:
        gc.enable()
    bench.judge.seconds, bench.judge.blocks = 0.0, False
    bench.guarded(PROMPT, **bench.size)
    print(f"  after one more that was allowed   {memory_mib(bench.device):9.1f}")


def memory_mib(device: str) -> float:
    """Return how much of a GPU's memory tensors take; of a CPU nothing is known."""
    if not device.startswith("cuda"):
        return 0.0
    torch.cuda.synchronize(device)
    return float(torch.cuda.memory_allocated(device)) / 2**20


def report_offload(bench: Bench, calls: int) -> None:
    """Print times and memory where the models wait in the computer's own memory until they are used."""
    for pipe in (bench.plain, bench.guarded):
        pipe.enable_model_cpu_offload(device=bench.device)
    guarded, half = Row(GUARDED, bench.guarded), Row("judge of 50%", bench.guarded, 0.5)
    block = Row("block after 50%", bench.guarded, 0.5, blocks=True)
    rounds = bench.take([guarded, half, block])
    print("\nmodels offloaded")
    report_overhead(rounds, [guarded])
    report_allow(rounds, [half])
    report_block(rounds, [block], bench.clock.step_s())
    report_memory(bench, calls)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=1024, help="side of the picture, in pixels")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--tiny", action="store_true", help="a tiny SDXL on the CPU, 64 x 64, 2 steps, one round")
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        parser.error("torch finds no CUDA GPU here; --tiny shows that the script runs")
    # Every refusal would be a line.
    logging.getLogger("safelight").setLevel(logging.CRITICAL)
    if given.tiny:
        torch.set_num_threads(1)
        side, steps, rounds, calls, device, make = 64, 2, 1, 2, "cpu", build
        name = "CPU, tiny: these times mean nothing"
    else:
        side, steps, rounds, calls, device = given.size, given.steps, given.rounds, STOPPED_CALLS, "cuda"
        name = torch.cuda.get_device_name(device)

        def make() -> Any:
            return true_sdxl(device, torch.float16)

    size = {"height": side, "width": side, "num_inference_steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(make, folder, size=size, device=device, rounds=rounds)
        print(f"{name}, torch {torch.__version__}; {side} x {side}, {steps} steps; {rounds} rounds: median (quartiles)")
        report_times(bench)
        report_previews(bench)
        report_memory(bench, calls)
        report_offload(bench, calls)


if __name__ == "__main__":
    main()
