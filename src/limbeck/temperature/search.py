"""Pick T by training students, at a small part of a grid's cost.

    1. every temperature with a few seeds, for a share of the steps; and a student without a teacher;
    2. the few that a smooth fit in log T prefers, and the student without a teacher, for all steps;
    3. the fit again, over both. Of the temperatures of the second round: the nearest to the middle of what is within one
       standard error of the best.

Students of one seed begin with the same weights and see the examples in the same order, so that they differ by T alone. Where
other values of alpha or other divergences are asked for, they are tried at the chosen T.

Optuna keeps the students in a journal file: a search that was killed goes on, and several workers, on several machines, share
one by running the same command on the same file.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.temperature.fit import Curve, Observation, fit

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)


@dataclass(frozen=True)
class Trial:
    """One student to train."""

    temperature: float
    seed: int
    share: float = 1.0
    """Of a whole training's steps."""
    alpha: float | None = None
    """None for the config's own; 0 for a student without a teacher."""
    divergence: str | None = None
    """None for the config's own; another one is compensated for its curvature, or it would win or lose by its step size."""


Train = Callable[[Trial], float]
"""Trains the student of a trial; gives its quality on validation data, higher is better."""


@dataclass(frozen=True)
class Plan:
    """What a search tries.

    With the defaults it takes 12.5 whole trainings: a quarter of ten temperatures times five seeds.
    """

    temperatures: Sequence[float] = TEMPERATURES
    seeds: Sequence[int] = (0, 1)
    share: float = 0.25
    """Of the steps, in the first round."""
    finalists: int = 3
    """Temperatures of the second round."""
    alphas: Sequence[float] = ()
    divergences: Sequence[str] = ()

    def __post_init__(self) -> None:
        given = [float(t) for t in self.temperatures]
        if len(given) < 3 or min(given) <= 0 or not all(map(math.isfinite, given)) or len(set(given)) < len(given):
            raise ValueError(
                f"temperatures: expected at least 3 different positive numbers, got {list(self.temperatures)}."
            )
        if not self.seeds:
            raise ValueError("seeds: expected at least one.")
        if not 0 < self.share < 1:
            raise ValueError(f"share: expected a number in (0, 1), got {self.share}.")
        if not 1 <= self.finalists <= len(given):
            raise ValueError(
                f"finalists: expected 1 to {len(given)}, as many as there are temperatures, got {self.finalists}."
            )
        object.__setattr__(self, "temperatures", tuple(sorted(given)))

    @property
    def cost(self) -> float:
        """In whole trainings."""
        rounds = len(self.seeds) * (len(self.temperatures) + 1) * self.share + len(self.seeds) * self.finalists + 1
        return rounds + len(self.seeds) * (len(self.alphas) + len(self.divergences))


@dataclass(frozen=True)
class Choice:
    """What a search found."""

    temperature: float
    interval: tuple[float, float]
    """Within one standard error of the best, around it."""
    gain: float
    """Over the student without a teacher, in the quality's own units: the mean over the seeds that both have."""
    gain_error: float
    """The standard error of that mean, by the noise of all students once their seeds' shared luck is taken off."""
    alpha: float | None = None
    divergence: str | None = None
    curve: Curve | None = None
    trials: list[tuple[Trial, float]] = field(default_factory=list)
    """Every student, and its quality."""

    @property
    def worthwhile(self) -> bool:
        """Whether any temperature beats training without a teacher, by more than one standard error."""
        return self.gain > self.gain_error

    @property
    def cost(self) -> float:
        """In whole trainings."""
        return sum(trial.share for trial, _ in self.trials)


def search(
    train: Train,
    plan: Plan | None = None,
    *,
    journal: str | Path | None = None,
    name: str = "temperature",
    progress: str | None = None,
) -> Choice:
    """Train students until the plan is done, and choose.

    Args:
        train: trains one student.
        plan: what to try.
        journal: the file that keeps the students; by default they are kept in memory.
        name: of the study in it; other students (another model, other data) need another name.
        progress: the title of a progress bar, in whole trainings.

    Raises:
        ImportError: optuna is missing; ``pip install 'limbeck[search]'``.
    """
    from tqdm import tqdm

    plan = plan or Plan()
    study = _open(journal, name)
    _bury_the_dead(study)
    bar = tqdm(total=round(plan.cost, 2), desc=progress, leave=False, disable=progress is None)
    while wanted := _missing(plan, done := _done(study)):
        bar.n = round(sum(trial.share for trial in done), 2)
        bar.refresh()
        trial = _claim(study, wanted)
        if trial is None:  # others train what is left of this round
            time.sleep(0.5)
            continue
        number, what = trial
        try:
            value = float(train(what))
            if not math.isfinite(value):
                raise ValueError(f"the student of {what} has a quality of {value}.")
        except BaseException:
            _tell(study, number, None)
            raise
        _tell(study, number, value)
    bar.close()
    return choose(plan, done)


def choose(plan: Plan, done: dict[Trial, float]) -> Choice:
    """What finished students say."""
    curve = _curve(plan, done)
    t = _chosen(plan, done)
    alone = {trial.seed: value for trial, value in done.items() if trial.alpha == 0 and trial.share == 1}
    mine = {s: done[Trial(t, s)] for s in plan.seeds if Trial(t, s) in done}
    both = [mine[seed] - alone[seed] for seed in alone if seed in mine]
    gain = float(np.mean(both)) if both else math.nan
    error = _noise(done) * math.sqrt(2 / max(1, len(both)))
    choice = Choice(
        t, curve.interval, gain, error, curve=curve, trials=sorted(done.items(), key=lambda item: str(item[0]))
    )
    for key in ("alpha", "divergence"):
        choice = replace(choice, **{key: _better(plan, done, Trial(t, 0), key)})
    return choice


def _rounds(plan: Plan, done: dict[Trial, float]) -> Iterable[list[Trial]]:
    """Each round's students; the later ones depend on what the earlier ones found."""
    first = [Trial(t, s, plan.share) for s in plan.seeds for t in plan.temperatures]
    yield first + [Trial(1.0, s, plan.share, alpha=0.0) for s in plan.seeds]
    finalists = [Trial(t, s) for s in plan.seeds for t in _finalists(plan, done)]
    yield [*finalists, Trial(1.0, plan.seeds[0], alpha=0.0)]
    t = _chosen(plan, done)
    yield [Trial(t, s, alpha=a) for s in plan.seeds for a in plan.alphas]
    yield [Trial(t, s, divergence=d) for s in plan.seeds for d in plan.divergences]


def _missing(plan: Plan, done: dict[Trial, float]) -> list[Trial]:
    """What the first unfinished round still needs."""
    for wanted in _rounds(plan, done):
        if missing := [trial for trial in wanted if trial not in done]:
            return missing
    return []


def _curve(plan: Plan, done: dict[Trial, float]) -> Curve:
    seen = [
        Observation(trial.temperature, trial.seed, trial.share, value)
        for trial, value in done.items()
        if trial.alpha is None and trial.divergence is None
    ]
    return fit(seen, plan.temperatures)


def _finalists(plan: Plan, done: dict[Trial, float]) -> list[float]:
    """The temperatures that the first round prefers, ascending."""
    curve = _curve(plan, {trial: value for trial, value in done.items() if trial.share < 1})
    order = np.argsort(-curve.mean, kind="stable")
    return sorted(curve.temperatures[i] for i in order[: plan.finalists])


def _chosen(plan: Plan, done: dict[Trial, float]) -> float:
    return _curve(plan, done).nearest_to_middle(_finalists(plan, done))


def _noise(done: dict[Trial, float]) -> float:
    """The standard deviation of one student, without the effects of its temperature and of its seed, over both rounds."""
    squares, freedom = 0.0, 0
    for share in {trial.share for trial in done}:
        table: dict[tuple[float, float | None], dict[int, float]] = {}
        for trial, value in done.items():
            if trial.share == share and trial.divergence is None:
                table.setdefault((trial.temperature, trial.alpha), {})[trial.seed] = value
        seeds = max((set(row) for row in table.values()), key=len)
        whole = np.array([[row[s] for s in sorted(seeds)] for row in table.values() if set(row) == seeds])
        residual = whole - whole.mean(0) - whole.mean(1, keepdims=True) + whole.mean()
        squares += float((residual**2).sum())
        freedom += (whole.shape[0] - 1) * (whole.shape[1] - 1)
    return math.sqrt(squares / freedom) if freedom else math.nan


def _better(plan: Plan, done: dict[Trial, float], base: Trial, key: str) -> Any:
    """The value of alpha, or the divergence, that beats the config's own by more than a standard error; None for none."""
    options = {"alpha": plan.alphas, "divergence": plan.divergences}[key]
    own = [done[replace(base, seed=s)] for s in plan.seeds if replace(base, seed=s) in done]
    best, best_gain = None, 0.0
    for value in options:
        theirs = [done.get(replace(base, seed=s, **{key: value}), math.nan) for s in plan.seeds]
        gains = np.array(theirs) - np.array(own)
        error = float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else 0.0
        if gains.mean() - error > best_gain:
            best, best_gain = value, float(gains.mean())
    return best


def _open(journal: str | Path | None, name: str) -> Study:
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = InMemoryStorage() if journal is None else JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _of(trial: FrozenTrial) -> Trial:
    return Trial(**trial.user_attrs["trial"])


def _done(study: Study) -> dict[Trial, float]:
    from optuna.trial import TrialState

    found: dict[Trial, float] = {}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        assert trial.value is not None
        found.setdefault(_of(trial), trial.value)
    return found


def _claim(study: Study, wanted: list[Trial]) -> tuple[int, Trial] | None:
    """Take the first student that nobody trains; of two who took the same, the earlier one keeps it."""
    from optuna.trial import TrialState

    running = {_of(t) for t in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]) if "trial" in t.user_attrs}
    for what in wanted:
        if what in running:
            continue
        trial = study.ask()
        trial.set_user_attr("worker", [socket.gethostname(), os.getpid()])
        trial.set_user_attr("trial", asdict(what))
        for other in study.get_trials(deepcopy=False):
            same = other.number < trial.number and "trial" in other.user_attrs and _of(other) == what
            if same and other.state in (TrialState.RUNNING, TrialState.COMPLETE):
                _tell(study, trial.number, None)
                return None
        return trial.number, what
    return None


def _tell(study: Study, number: int, value: float | None) -> None:
    from optuna.trial import TrialState

    if value is None:
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, value)


def _bury_the_dead(study: Study) -> None:
    """Students whose worker, on this machine, is no more: they are trained anew."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        host, process = trial.user_attrs.get("worker", [socket.gethostname(), 0])
        if host == socket.gethostname() and not _is_alive(process):
            _tell(study, trial.number, None)


def _is_alive(process: int) -> bool:
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
