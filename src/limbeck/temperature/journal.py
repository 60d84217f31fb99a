"""The students of a search, in an Optuna study that several workers can share."""

from __future__ import annotations

import base64
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.temperature.quality import Quality
from limbeck.temperature.search_plan import Trial

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial


class Journal:
    """A record of the students that were trained, and of those that workers are training now.

    Args:
        path: the file that keeps the record; None keeps it in memory.
        name: the name of the study in the file.
        host: the name of this machine; by default the operating system's name for it.

    Raises:
        ImportError: Optuna is not installed.
    """

    def __init__(self, path: str | Path | None, name: str, host: str | None = None) -> None:
        self._study = _open_study(path, name)
        self._host = socket.gethostname() if host is None else host
        self._claims: dict[int, OptunaTrial] = {}

    def results(self) -> dict[Trial, float]:
        """Return the quality of each student that was trained to the end, as a number; of twins, the first one's."""
        results: dict[Trial, float] = {}
        for record in self._finished():
            assert record.value is not None
            results.setdefault(_trial_of(record), record.value)
        return results

    def qualities(self) -> dict[Trial, Quality]:
        """Return the same as ``results``, with what is known of the errors."""
        qualities: dict[Trial, Quality] = {}
        for record in self._finished():
            qualities.setdefault(_trial_of(record), _quality_of(record))
        return qualities

    def _finished(self) -> list[FrozenTrial]:
        from optuna.trial import TrialState

        return self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def claim(self, wanted: Sequence[Trial]) -> tuple[int, Trial] | None:
        """Mark the first of some trials that no worker is training as this worker's own.

        Two workers can claim one trial at the same moment. The earlier claim is kept, and the later one is given up.

        Args:
            wanted: the trials, the most urgent one first.

        Returns:
            The claim's number and the trial; None when there is nothing to claim at this moment.
        """
        from optuna.trial import TrialState

        records = self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        running = {_trial_of(record) for record in records if "trial" in record.user_attrs}
        trial = next((trial for trial in wanted if trial not in running), None)
        if trial is None:
            return None
        claim = self._study.ask()
        claim.set_user_attr("worker", [self._host, os.getpid()])
        claim.set_user_attr("trial", asdict(trial))
        for other in self._study.get_trials(deepcopy=False):
            is_earlier = other.number < claim.number and "trial" in other.user_attrs and _trial_of(other) == trial
            if is_earlier and other.state in (TrialState.RUNNING, TrialState.COMPLETE):
                self.mark_failed(claim.number)
                return None
        self._claims[claim.number] = claim
        return claim.number, trial

    def mark_finished(self, number: int, quality: float | Quality) -> None:
        """Record the quality of a student.

        Args:
            number: the number of the claim.
            quality: the student's quality; a number when nothing is known of its error.
        """
        if isinstance(quality, Quality):
            self._claims[number].set_user_attr("quality", _details(quality))
            quality = quality.value
        self._study.tell(number, quality)

    def mark_failed(self, number: int) -> None:
        """Give a claim up, so that its trial can be claimed again.

        Args:
            number: the number of the claim.
        """
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL)

    def mark_lost_as_failed(self, patience: float) -> None:
        """Mark trials of dead workers as failed, so that they are retried.

        A worker on this machine is dead when its process does not exist. A worker on another machine counts as dead when
        its student takes ten times as long as the slowest finished one.

        Args:
            patience: the seconds that a worker on another machine gets at least.
        """
        from optuna.trial import TrialState

        durations = [record.duration.total_seconds() for record in self._finished() if record.duration is not None]
        limit = max(patience, 10 * max(durations, default=math.inf))
        for record in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            host, process = record.user_attrs.get("worker", [None, 0])
            if host == self._host:
                is_lost = not _is_alive(process)
            else:
                started = record.datetime_start or datetime.now()
                is_lost = (datetime.now() - started).total_seconds() > limit
            if is_lost:
                self.mark_failed(record.number)


def _open_study(path: str | Path | None, name: str) -> Study:
    """Open the study of a name, or create it."""
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = InMemoryStorage() if path is None else JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _trial_of(record: FrozenTrial) -> Trial:
    """Return the trial that one of Optuna's records describes."""
    return Trial(**record.user_attrs["trial"])


def _details(quality: Quality) -> dict[str, Any]:
    """Return what a quality tells of each example in the form that is written."""
    return {name: _packed(x) for name in ("scores", "brier") if (x := getattr(quality, name)) is not None}


def _quality_of(record: FrozenTrial) -> Quality:
    """Return the quality that one of Optuna's records holds. A study that was begun earlier has numbers alone."""
    assert record.value is not None
    details = record.user_attrs.get("quality", {})
    return Quality(record.value, **{name: _unpacked(details[name]) for name in ("scores", "brier") if name in details})


def _packed(values: np.ndarray) -> dict[str, Any]:
    """Return a row of numbers as values that JSON can write: a bit for each boolean, the first one highest, else float32."""
    data = np.packbits(values) if values.dtype == bool else values.astype("<f4")
    kind = "bits" if values.dtype == bool else "float32"
    return {"kind": kind, "count": len(values), "data": base64.b64encode(data.tobytes()).decode()}


def _unpacked(written: dict[str, Any]) -> np.ndarray:
    """Return the numbers that ``_packed`` has written."""
    data = base64.b64decode(written["data"])
    if written["kind"] == "bits":
        return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=written["count"]).astype(bool)
    return np.frombuffer(data, dtype="<f4")


def _is_alive(process: int) -> bool:
    """Return whether a process of this machine exists."""
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        return True
    return True
