"""Training that can be stopped at any time: its state goes into one file, and a new process goes on from there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


class Checkpoint:
    """The file of one stage of the training.

    Args:
        path: The file. It is replaced as a whole, so it is never half written.
        state: What is kept: everything with ``state_dict`` and ``load_state_dict``, by name.
    """

    def __init__(self, path: Path, **state: Any) -> None:
        self._path = path
        self._state = state

    def load(self) -> int:
        """Put the kept state back and return the steps done; 0 where no file is."""
        if not self._path.exists():
            return 0
        kept = torch.load(self._path, map_location="cpu", weights_only=True)
        for name, part in self._state.items():
            part.load_state_dict(kept[name])
        return int(kept["steps"])

    def save(self, steps: int) -> None:
        """Keep the state after ``steps`` steps."""
        kept = {name: part.state_dict() for name, part in self._state.items()}
        scratch = self._path.with_suffix(".part")
        torch.save({**kept, "steps": steps}, scratch)
        os.replace(scratch, self._path)


class Average:
    """The moving average of a model's weights, which draws better than the last weights do.

    Args:
        model: The model that is trained.
        decay: Share of the average that a step keeps, once there were many steps.
    """

    def __init__(self, model: torch.nn.Module, *, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._steps = 0
        self._kept = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights of this step into the average."""
        self._steps += 1
        # Early weights are far off: the average forgets faster at the start.
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in self._model.state_dict().items():
            if value.dtype.is_floating_point:
                self._kept[name].lerp_(value, 1 - decay)

    def copy_to(self, model: torch.nn.Module) -> None:
        """Load the average into ``model``."""
        model.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and its number of steps."""
        return {"steps": self._steps, "kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a kept average."""
        self._steps = state["steps"]
        for name, value in state["kept"].items():
            self._kept[name].copy_(value)
