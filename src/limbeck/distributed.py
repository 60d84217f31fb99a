"""The group of processes that ``accelerate launch`` or ``torchrun`` started, of which this process is one."""

from __future__ import annotations

import os

from accelerate import PartialState


def process_state() -> PartialState:
    """Return the number of this process, the count of all processes, and the device of this one.

    The first call waits until all processes have called it. ``PartialState()`` itself would look only for GPUs: on a machine
    without one, every process would believe that it is alone.

    Returns:
        Accelerate's ``PartialState``, on the CPU if there is no accelerator or if ``ACCELERATE_USE_CPU`` is set.
    """
    import torch

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    return PartialState(cpu=on_cpu or not torch.accelerator.is_available())


def end_process_group() -> None:
    """Wait for all processes, and close their group. Do nothing if there is no group.

    If a process exits while the group is open and another process still works, the group's threads may abort it.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
