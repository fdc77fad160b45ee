"""Several processes that train one model: ``torchrun`` starts them, each takes its part of every batch.

On a CPU two processes of one thread each do nearly twice the work of one process of two threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import distributed


def count() -> int:
    """Return the number of processes that ``torchrun`` started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def join() -> None:
    """Meet the other processes, if there are any."""
    if count() > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= count()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        distributed.barrier()
