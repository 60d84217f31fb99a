"""What is shown while a run trains."""

from __future__ import annotations

from typing import Any

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
