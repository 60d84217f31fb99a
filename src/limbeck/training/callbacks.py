"""What is shown while a run trains, and when it writes checkpoints beside those that its arguments ask for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback


class ProgressBar(TrainerCallback):
    """One progress bar for a whole run, in place of the Trainer's bars and printed dictionaries.

    It appears on the main process only, after one second.

    Args:
        title: the text before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step where the run begins or is resumed."""
        shown = state.is_world_process_zero
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc=self.title, delay=1.0, leave=False, disable=not shown
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar to the current step."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the latest loss and evaluation beside the bar."""
        shown = {name: logs[name] for name in ("loss", "eval_loss", "eval_accuracy") if logs and name in logs}
        if shown and self._bar is not None:
            self._bar.set_postfix(shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar and clear its line."""
        self._bar.close()


class EpochOfExamples(TrainerCallback):
    """Tells the training examples which epoch begins, so that what is random in them is the same in a resumed run.

    Args:
        begin_epoch: is given the seed of the run and the number of the epoch.
    """

    def __init__(self, begin_epoch: Callable[[int, int], None]) -> None:
        self._begin_epoch = begin_epoch

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the number of the epoch. It has a fraction where a run is resumed inside of an epoch."""
        self._begin_epoch(args.seed, int(state.epoch or 0))


class TimedCheckpoints(TrainerCallback):
    """Writes a checkpoint after some time, and one when the run is to stop. All processes write and stop at the same step.

    Args:
        signal_that_came: returns the number of the signal that asks this process to stop, 0 if there was none.
        seconds: the time between two checkpoints; None for none but the last. It is longer where writing is slow, so that
            writing takes one part in 20 of the run at most.
    """

    def __init__(self, signal_that_came: Callable[[], int], seconds: float | None) -> None:
        self.stopped_by = 0
        """The number of the signal that ended the training, 0 if it was not ended."""
        self._signal_that_came = signal_that_came
        self._pause = math.inf if seconds is None else seconds
        self._last = self._step_ended = math.nan

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint if it is time for one, and for the end if a signal came."""
        self._step_ended = time.monotonic()
        is_due = self._step_ended - self._last >= self._pause
        self.stopped_by, is_due = _highest_of_all(args, self._signal_that_came(), is_due)
        control.should_save = control.should_save or bool(self.stopped_by or is_due)
        control.should_training_stop = control.should_training_stop or bool(self.stopped_by)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure how long the checkpoint took, and start the clock again."""
        self._last = time.monotonic()
        self._pause = max(self._pause, 20 * (self._last - self._step_ended))


def _highest_of_all(args: Any, *numbers: int) -> list[int]:
    """Return the highest value that each number has on any process."""
    if args.world_size == 1:
        return list(numbers)
    shared = torch.tensor(numbers, device=args.device)
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return shared.tolist()
