"""The processes that ``accelerate launch`` or ``torchrun`` started, of which this is one."""

from __future__ import annotations

import os

from accelerate import PartialState


def process_state() -> PartialState:
    """Which process this is, of how many; they meet at the first call.

    Accelerate alone would look for GPUs only: on a machine without one, every process would think it is the only one.
    """
    import torch

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    return PartialState(cpu=on_cpu or not torch.accelerator.is_available())


def end_process_group() -> None:
    """End the group of processes that ``accelerate launch`` started, once all are done.

    A process that exits with its group open, while another still works, may be aborted by the group's threads.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
