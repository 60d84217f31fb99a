"""Pick T by training students, at a quarter of a grid's cost.

    1. every second temperature with one seed, and a student without a teacher;
    2. twice: the temperatures that a smooth curve in log T holds most promising (its mean plus its standard deviation), with
       the next seed where one was tried before;
    3. of the temperatures that were tried, the nearest to the middle of what is within one standard error of the best.

Students of one seed begin with the same weights and see the examples in the same order, so that they differ by T alone. All are
trained to the end: short trainings prefer lower temperatures (docs/temperature.md has the figures), so halving them away early
would choose too low. Where other values of alpha or other divergences are asked for, they are tried at the chosen T.

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
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.temperature.gaussian_process import Curve, Observation, fit

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

PATIENCE = 60.0
"""Seconds that a worker on another machine is waited for at least."""
TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)


@dataclass(frozen=True)
class Trial:
    """One student to train."""

    temperature: float
    seed: int
    alpha: float | None = None
    """None for the config's own; 0 for a student without a teacher."""
    divergence: str | None = None
    """None for the config's own; another one is compensated for its curvature, or it would win or lose by its step size."""


Train = Callable[[Trial], float]
"""Trains the student of a trial; gives its quality on validation data, higher is better."""


@dataclass(frozen=True)
class Plan:
    """What a search tries.

    With the defaults it takes 12 trainings: less than a quarter of ten temperatures times five seeds.
    """

    temperatures: Sequence[float] = TEMPERATURES
    seeds: Sequence[int] = (0, 1, 2)
    batches: Sequence[int] = (3, 2)
    """How many promising students are trained, in each of the rounds after the first."""
    alphas: Sequence[float] = ()
    divergences: Sequence[str] = ()

    def __post_init__(self) -> None:
        given = [float(t) for t in self.temperatures]
        if len(given) < 3 or min(given) <= 0 or not all(map(math.isfinite, given)) or len(set(given)) < len(given):
            raise ValueError(
                f"temperatures: expected at least 3 different positive numbers, got {list(self.temperatures)}."
            )
        if len(self.seeds) < 2:
            raise ValueError(f"seeds: expected at least 2, got {list(self.seeds)}.")
        if any(size < 1 for size in self.batches):
            raise ValueError(f"batches: expected positive numbers, got {list(self.batches)}.")
        object.__setattr__(self, "temperatures", tuple(sorted(given)))

    @property
    def cost(self) -> int:
        """In trainings."""
        extra = len(self.alphas) + len(self.divergences)
        return len(self.temperatures[::2]) + sum(self.batches) + 2 + 2 * extra


@dataclass(frozen=True)
class Choice:
    """What a search found."""

    temperature: float
    interval: tuple[float, float]
    """Within one standard error of the best, around it."""
    gain: float
    """Over the student without a teacher, in the quality's own units: the mean over the seeds that both have."""
    gain_error: float
    """The standard error of that mean, by the curve's noise."""
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
    def cost(self) -> int:
        """In trainings."""
        return len(self.trials)


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
        progress: the title of a progress bar.

    Raises:
        ImportError: optuna is missing; ``pip install 'limbeck[search]'``.
    """
    from tqdm import tqdm

    plan = plan or Plan()
    study = _open(journal, name)
    bar = tqdm(total=plan.cost, desc=progress, leave=False, disable=progress is None)
    while wanted := _missing(plan, done := _done(study)):
        bar.n = len(done)
        bar.refresh()
        _bury_the_dead(study)
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
    known = [trial for wanted in _searches(plan, done) for trial in wanted]
    curve = _curve(plan, _among(known, done))
    t = _chosen(curve, known)
    gains = [
        done[Trial(t, s)] - done[alone] for s in plan.seeds if (alone := _alone(s)) in done and Trial(t, s) in done
    ]
    gain = float(np.mean(gains)) if gains else math.nan
    error = curve.noise * math.sqrt(2 / max(1, len(gains)))
    trials = sorted(done.items(), key=lambda item: str(item[0]))
    choice = Choice(t, curve.interval, gain, error, curve=curve, trials=trials)
    for key in ("alpha", "divergence"):
        choice = replace(choice, **{key: _better(plan, done, Trial(t, 0), key)})
    return choice


def _alone(seed: int) -> Trial:
    """The student without a teacher."""
    return Trial(1.0, seed, alpha=0.0)


def _missing(plan: Plan, done: dict[Trial, float]) -> list[Trial]:
    """What the first unfinished round still needs."""
    for wanted in _rounds(plan, done):
        if missing := [trial for trial in wanted if trial not in done]:
            return missing
    return []


def _rounds(plan: Plan, done: dict[Trial, float]) -> Iterable[list[Trial]]:
    """Each round's students; the later ones depend on what the earlier ones found, and on nothing else."""
    known: list[Trial] = []
    for wanted in _searches(plan, done):
        yield wanted if known else [*wanted, *map(_alone, plan.seeds[:2])]
        known += wanted
    if not (plan.alphas or plan.divergences):
        return
    t = _chosen(_curve(plan, _among(known, done)), known)
    yield [Trial(t, s) for s in plan.seeds[:2]]
    yield [Trial(t, s, alpha=a) for s in plan.seeds[:2] for a in plan.alphas]
    yield [Trial(t, s, divergence=d) for s in plan.seeds[:2] for d in plan.divergences]


def _searches(plan: Plan, done: dict[Trial, float]) -> Iterable[list[Trial]]:
    """The students that the curve is fitted to, round by round, whatever was trained since."""
    known = [Trial(t, plan.seeds[0]) for t in plan.temperatures[::2]]
    yield known
    for size in plan.batches:
        wanted = _promising(plan, _among(known, done), size)
        yield wanted
        known = known + wanted


def _among(trials: Iterable[Trial], done: dict[Trial, float]) -> dict[Trial, float]:
    return {trial: done[trial] for trial in trials}


def _promising(plan: Plan, known: dict[Trial, float], count: int) -> list[Trial]:
    """The next students: each where the curve's mean plus standard deviation is highest, believing its mean of the others."""
    believed, wanted = dict(known), []
    for _ in range(count):
        curve = _curve(plan, believed)
        hope = curve.mean + np.sqrt(np.diag(curve.covariance))
        level = float(np.mean([value - curve.at(trial.temperature) for trial, value in believed.items()]))
        for i in np.argsort(-hope, kind="stable"):
            t = plan.temperatures[i]
            trial = next((Trial(t, s) for s in plan.seeds if Trial(t, s) not in believed), None)
            if trial is not None:
                wanted.append(trial)
                believed[trial] = curve.at(t) + level
                break
    return wanted


def _curve(plan: Plan, known: dict[Trial, float]) -> Curve:
    return fit([Observation(trial.temperature, trial.seed, value) for trial, value in known.items()], plan.temperatures)


def _chosen(curve: Curve, known: Iterable[Trial]) -> float:
    return curve.nearest_to_middle(sorted({trial.temperature for trial in known}))


def _better(plan: Plan, done: dict[Trial, float], base: Trial, key: str) -> Any:
    """The value of alpha, or the divergence, that beats the config's own by more than a standard error; None for none."""
    options = {"alpha": plan.alphas, "divergence": plan.divergences}[key]
    best, best_gain = None, 0.0
    for value in options:
        pairs = [(replace(base, seed=s, **{key: value}), replace(base, seed=s)) for s in plan.seeds]
        gains = np.array([done[one] - done[other] for one, other in pairs if one in done and other in done])
        if len(gains) > 1 and gains.mean() - gains.std(ddof=1) / math.sqrt(len(gains)) > best_gain:
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
    """Students whose worker is no more, so that they are trained anew.

    On this machine a worker is asked for; of one on another machine it is believed when its student takes ten times as long
    as any took.
    """
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    longest = max(
        (trial.duration.total_seconds() for trial in finished if trial.duration is not None), default=math.inf
    )
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        host, process = trial.user_attrs.get("worker", [None, 0])
        if host == socket.gethostname():
            lost = not _is_alive(process)
        else:
            started = trial.datetime_start or datetime.now()
            lost = (datetime.now() - started).total_seconds() > max(PATIENCE, 10 * longest)
        if lost:
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
