"""What a pipeline calls at the end of a step: the caller's own callback, and then the judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..errors import UnjudgedChannel
from .beside import Beside
from .sealed import SealedTensor, Texts

Ask = Callable[[dict[str, Any]], Any]
Seal = Callable[[Mapping[str, Any], Ask, Sequence[Texts]], dict[str, Any]]


class StepEnd:
    """A pipeline's ``callback_on_step_end``: the caller's own, and then what the judges have to say.

    Args:
        beside: Knows the rulings.
        callback: The caller's own, or None.
        tensors: The names of the tensors that the caller's own is handed.
        seal: Returns what the caller's own is handed in place of tensors, and checks what it returns.
        origins: The texts of the run's prompts: what a sealed tensor was made from, wherever the caller takes it.
        check: Is shown the pipeline after the caller's own, and raises where it may not go on like this.
    """

    def __init__(
        self,
        beside: Beside,
        callback: Callable[..., Any] | None,
        tensors: Sequence[str],
        seal: Seal,
        *,
        origins: Sequence[Texts] = (),
        check: Callable[[Any], None] | None = None,
    ) -> None:
        self._beside = beside
        self._callback = callback
        self._tensors = tuple(tensors) if callback is not None else ()
        self._seal = seal
        self._origins = tuple(origins)
        self._check = check

    @property
    def tensor_inputs(self) -> list[str]:
        """The names of the tensors that the pipeline must hand out."""
        return list(dict.fromkeys(["latents", *self._tensors]))

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """Return the tensors that the pipeline goes on with."""
        changed: dict[str, Any] = {}
        callback = self._callback
        if callback is not None:
            asked = {name: tensors[name] for name in self._tensors}
            changed = self._seal(asked, lambda handed: callback(pipe, step, timestep, handed), self._origins)
        if self._check is not None:
            self._check(pipe)
        latents = changed.get("latents", tensors["latents"])
        total = getattr(pipe, "num_timesteps", None)
        if getattr(pipe, "interrupt", False):
            # The caller's callback ended the loop: no step will come after this one.
            total = step + 1
        kept = self._beside.after_step(latents, step, total)
        return changed if kept is latents else {**changed, "latents": kept}


def hand_sealed(asked: Mapping[str, Any], ask: Ask, origins: Sequence[Texts]) -> dict[str, Any]:
    """Hand a callback sealed tensors, and accept them back only as they are.

    Raises:
        UnjudgedChannel: If it returns anything else.
    """

    def seal(tensor: Tensor) -> SealedTensor:
        return SealedTensor(tensor, origins)

    handed = {name: tree_map_only(Tensor, seal, value) for name, value in asked.items()}
    returned = ask(dict(handed))
    for name, value in dict(returned or {}).items():
        if name not in handed or value is not handed[name]:
            raise UnjudgedChannel(
                "callback_on_step_end",
                f"returned another {name!r} than it was handed, which nobody can judge; return it unchanged, or use "
                "allow={'callbacks'} in safelight.protect()",
            )
    return {}


def hand_open(asked: Mapping[str, Any], ask: Ask, origins: Sequence[Texts]) -> dict[str, Any]:
    """Hand a callback the tensors themselves, and accept whatever it returns."""
    return dict(ask(dict(asked)) or {})
