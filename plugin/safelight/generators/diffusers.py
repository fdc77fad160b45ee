"""Any text-to-image model that diffusers can load: SDXL, Stable Diffusion, Flux and others, from a folder or the hub.

Only safetensors weights are read, and no code that comes with a model is run. A safety checker that a model brings
along stays as the model ships it: it blackens pictures, which then go through the screens like any other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ConfigError, MissingExtra
from ..request import MAX_STEPS, GenerationRequest
from . import Progress
from .running import PipelineRunner

_DTYPES = ("float32", "float16", "bfloat16")


class DiffusersGenerator:
    """Makes pictures with a diffusers pipeline in this process.

    Args:
        model: A folder, or a model id of the Hugging Face hub.
        revision: Branch, tag or commit of the hub's repository. Name a commit, and the model cannot change.
        variant: Which weight files, for example ``fp16``.
        dtype: ``float32``, ``float16`` or ``bfloat16``; by default 16 bits on a GPU and 32 on a CPU.
        device: As torch names it; by default ``cuda`` where there is one, else ``cpu``.
        offload: Keep on the GPU only the part that is at work. Needs a GPU.
        steps: Denoising steps where a request names none.
        name: Model id for clients; by default the last part of ``model``.

    Raises:
        ConfigError: If the model cannot be loaded, or an option is wrong.
        MissingExtra: If torch, diffusers or transformers is not installed.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        offload: bool = False,
        steps: int = 30,
        name: str | None = None,
    ) -> None:
        if not 1 <= steps <= MAX_STEPS:
            raise ConfigError(f"generator.steps: must be from 1 to {MAX_STEPS}, not {steps}")
        device = _checked_device(device, offload=offload)
        pipe = _load(_checked_model(model), revision=revision, variant=variant, dtype=_dtype(dtype, device))
        _place(pipe, device, offload=offload)
        self.name = name or model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
        self.note = f"The model {self.name}, run with diffusers on this server."
        self._runner = PipelineRunner(pipe, steps=steps)

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        """Return ``request.n`` RGB pictures of the asked size; where none is asked, of the model's own.

        A side that the model cannot make exactly is made a little longer and cut.

        Raises:
            InvalidRequest: If the request sets what this model does not have; the message names it.
            GenerationFailed: If no proper picture came out, or memory did not suffice.
        """
        return self._runner.generate(request, progress)


def _checked_model(model: str) -> str:
    # What is plainly a path is not looked for in the hub, where the message would be about a connection.
    if (Path(model).is_absolute() or model.startswith((".", "~"))) and not Path(model).is_dir():
        raise ConfigError(f"generator.model: there is no folder {model!r}")
    return model


def _checked_device(device: str | None, *, offload: bool) -> str:
    """Choose the device, or find out before a long load that the chosen one cannot be used."""
    torch = _torch()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"generator.device: {device!r} is none that torch knows; try 'cuda' or 'cpu'") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"generator.device: {device!r} cannot be used, because torch finds no GPU here")
    if offload and kind != "cuda":
        raise ConfigError(f"generator.offload: needs a GPU, and the device is {device!r}; set it to false")
    return device


def _dtype(dtype: str | None, device: str) -> Any:
    torch = _torch()
    if dtype is None:
        on_gpu = device.startswith("cuda")
        dtype = "float32" if not on_gpu else "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if dtype not in _DTYPES:
        raise ConfigError(f"generator.dtype: must be one of {', '.join(_DTYPES)}, not {dtype!r}")
    return getattr(torch, dtype)


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "models", needed_by="the diffusers generator") from error
    return torch


def _load(model: str, *, revision: str | None, variant: str | None, dtype: Any) -> Any:
    # Read by diffusers when it is imported. Nothing here asks for remote code; this also stops what a model asks for.
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    try:
        from diffusers import AutoPipelineForText2Image
        from safetensors import SafetensorError
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "diffusers", "models", needed_by="the diffusers generator") from error
    try:
        return AutoPipelineForText2Image.from_pretrained(
            model, revision=revision, variant=variant, dtype=dtype, use_safetensors=True
        )
    # An AttributeError is how diffusers says that it knows no pipeline of the name in model_index.json.
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(f"generator.model: cannot load {model!r}: {reason[:300]}") from error


def _place(pipe: Any, device: str, *, offload: bool) -> None:
    try:
        if offload:
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.to(device)
    # Too little memory, or a device that torch knows of and was not built for.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"generator.device: cannot use {device!r}: {reason[:300]}") from error
