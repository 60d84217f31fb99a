"""Choose T by training students, at a quarter of the cost of a full grid.

    1. Train a student at every second temperature with one seed, and two students without a teacher.
    2. Twice, fit a smooth curve of the quality over log T, and train students at the most promising temperatures. These are
       the ones where the curve's mean plus its standard deviation is highest. A temperature that was tried before gets its
       next seed.
    3. Find the temperatures whose quality is within one standard error of the best. Of the temperatures that were tried,
       choose the one that is nearest to the middle of this interval.

Students of one seed start from the same weights and see the examples in the same order, so they differ by T alone. All
students are trained to the end: short trainings prefer lower temperatures (docs/explanation/temperature.md has the figures),
so a search that stops bad students early would choose a T that is too low. Other values of alpha and other divergences are
tried at the chosen T.

Optuna keeps the students in a journal file. A search that was killed continues where it stopped, and several workers on
several machines share one search when they run the same command on the same file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.interruption import Interrupted
from limbeck.temperature.gaussian_process import Curve, Observation, fit_curve
from limbeck.temperature.journal import Journal
from limbeck.temperature.search_plan import SearchPlan, Trial
from limbeck.temperature.verdict import Quality, Verdict, judge

Train = Callable[[Trial], float | Quality]
"""Trains the student of a trial and returns its quality on validation data; higher is better. A ``Quality`` says how much of
it is owed to the validation set, which the verdict needs."""

PAIRED_SEEDS = range(2)
"""The seeds of the students that are compared in pairs: those without a teacher, and those of another alpha or divergence."""


@dataclass(frozen=True)
class Choice:
    """What a search found."""

    temperature: float
    interval: tuple[float, float]
    """The lowest and highest temperature around the best one whose quality is within one standard error of the best."""
    gain: float
    """The mean gain over the student without a teacher, in units of the quality, over the seeds that both have."""
    gain_error: float
    """The standard error of the gain, over seeds and, if ``train`` returned it, over validation sets."""
    alpha: float | None = None
    """A weight of the soft term that is better than the config's own; None when there is none."""
    divergence: str | None = None
    """A divergence that is better than the config's own; None when there is none."""
    curve: Curve | None = None
    """The fitted curve, from which the temperature was chosen."""
    trials: list[tuple[Trial, float]] = field(default_factory=list)
    """All students with their quality."""
    verdict: Verdict | None = None
    """Whether the teacher pays, does not pay, or cannot be told to, and what that rests on."""
    metric: str = "accuracy"
    """What the quality of a student is."""

    @property
    def worthwhile(self) -> bool:
        """Return whether the teacher pays. False does not mean that it does not: see ``verdict.answer``."""
        return self.gain > self.gain_error if self.verdict is None else self.verdict.answer == "pays"

    @property
    def cost(self) -> int:
        """Return the number of students that were trained."""
        return len(self.trials)


def search(
    train: Train,
    plan: SearchPlan | None = None,
    *,
    journal: str | Path | None = None,
    name: str = "temperature",
    progress: str | None = None,
    patience: float = 60.0,
) -> Choice:
    """Train the students of a plan and choose a temperature.

    Args:
        train: trains the student of a trial and returns its quality, a number or a ``Quality``.
        plan: what to try; by default ``SearchPlan()``.
        journal: the file that keeps the students; by default they are kept in memory.
        name: the name of the study in the journal. Other students (another model, other data) need another name.
        progress: the title of a progress bar; by default there is no bar.
        patience: the seconds that a worker on another machine gets at least, before its student is trained again here.

    Returns:
        The temperature with its interval, its gain and all students.

    Raises:
        ImportError: Optuna is not installed. It comes with Limbeck's extra ``search``.
        ValueError: ``train`` returned a quality that is not a finite number.
    """
    from tqdm import tqdm

    plan = plan or SearchPlan()
    record = Journal(journal, name)
    with tqdm(total=plan.cost, desc=progress, leave=False, disable=progress is None) as bar:
        try:
            while wanted := _missing_trials(plan, results := record.results()):
                bar.n = len(results)
                bar.refresh()
                record.mark_lost_as_failed(patience)
                claim = record.claim(wanted)
                if claim is None:  # other workers are training the rest of this round
                    time.sleep(0.5)
                else:
                    _train_claimed(train, record, *claim)
        except Interrupted as stop:
            kept = "" if journal is None else " and kept"
            stop.finished = f"{len(record.results())} of {plan.cost} students are finished{kept}."
            raise
    return choose(plan, record.qualities())


def choose(plan: SearchPlan, results: Mapping[Trial, float | Quality]) -> Choice:
    """Choose a temperature from the students of a finished search.

    Args:
        plan: what the search tried.
        results: all of the plan's students with their quality, a number or a ``Quality``.

    Returns:
        The temperature with its interval, its gain and all students.
    """
    qualities = {trial: q if isinstance(q, Quality) else Quality(float(q)) for trial, q in results.items()}
    values = {trial: quality.value for trial, quality in qualities.items()}
    trials = [trial for round_ in _curve_rounds(plan, values) for trial in round_]
    curve = _fit(plan, {trial: values[trial] for trial in trials})
    temperature = _middle_temperature(curve, trials)
    own = [Trial(temperature, seed) for seed in range(plan.seeds)]

    def verdict(pairs: Iterable[tuple[Trial, Trial]]) -> Verdict:
        trained = [(one, other) for one, other in pairs if one in qualities and other in qualities]
        return judge([(qualities[one], qualities[other]) for one, other in trained], curve.noise)

    def better_setting(setting: str, given: Sequence[Any]) -> Any:
        """Return the value that is better than the config's own by the most, and by a standard error; or None."""
        found = {value: verdict((replace(trial, **{setting: value}), trial) for trial in own) for value in given}
        better = [value for value, v in found.items() if v.seeds > 1 and v.gain > v.error]
        return max(better, key=lambda value: found[value].gain, default=None)

    of_teacher = verdict((trial, _without_teacher(trial.seed)) for trial in own)
    return Choice(
        temperature=temperature,
        interval=curve.interval,
        gain=of_teacher.gain,
        gain_error=of_teacher.error,
        alpha=better_setting("alpha", plan.alphas),
        divergence=better_setting("divergence", plan.divergences),
        curve=curve,
        trials=sorted(values.items(), key=lambda item: str(item[0])),
        verdict=of_teacher,
    )


def _train_claimed(train: Train, record: Journal, number: int, trial: Trial) -> None:
    """Train the student of a claim and record its quality, or give the claim up on any exception."""
    try:
        quality = train(trial)
        value = float(quality.value if isinstance(quality, Quality) else quality)
        if not math.isfinite(value):
            raise ValueError(f"the student of {trial} has a quality of {value}.")
    except BaseException:
        record.mark_failed(number)
        raise
    record.mark_finished(number, quality if isinstance(quality, Quality) else value)


def _missing_trials(plan: SearchPlan, results: dict[Trial, float]) -> list[Trial]:
    """Return the trials without a result in the first round that is not finished; [] when all rounds are."""
    for round_ in _rounds(plan, results):
        if missing := [trial for trial in round_ if trial not in results]:
            return missing
    return []


def _rounds(plan: SearchPlan, results: dict[Trial, float]) -> Iterator[list[Trial]]:
    """Yield the trials of each round. A round depends on the results of the rounds before it, and on nothing else."""
    trials: list[Trial] = []
    for round_ in _curve_rounds(plan, results):
        yield round_ if trials else [*round_, *map(_without_teacher, PAIRED_SEEDS)]
        trials += round_
    if not (plan.alphas or plan.divergences):
        return
    t = _middle_temperature(_fit(plan, {trial: results[trial] for trial in trials}), trials)
    yield [Trial(t, seed) for seed in PAIRED_SEEDS]
    yield [Trial(t, seed, alpha=alpha) for seed in PAIRED_SEEDS for alpha in plan.alphas]
    yield [Trial(t, seed, divergence=divergence) for seed in PAIRED_SEEDS for divergence in plan.divergences]


def _curve_rounds(plan: SearchPlan, results: dict[Trial, float]) -> Iterator[list[Trial]]:
    """Yield, round by round, the trials that the curve is fitted to, whatever else has been trained."""
    trials = [Trial(t, 0) for t in plan.temperatures[::2]]
    yield trials
    for size in plan.batches:
        round_ = _promising_trials(plan, {trial: results[trial] for trial in trials}, size)
        yield round_
        trials = trials + round_


def _promising_trials(plan: SearchPlan, results: dict[Trial, float], count: int) -> list[Trial]:
    """Return the next trials: the ones where the curve's mean plus its standard deviation is highest.

    Each trial that is added counts as if it had already given the curve's mean, so that the next one is placed elsewhere.
    """
    assumed, promising = dict(results), []
    for _ in range(count):
        curve = _fit(plan, assumed)
        upper_bound = curve.mean + np.sqrt(np.diag(curve.covariance))
        level = float(np.mean([quality - curve.at(trial.temperature) for trial, quality in assumed.items()]))
        for i in np.argsort(-upper_bound, kind="stable"):
            t = plan.temperatures[i]
            untried = (trial for seed in range(plan.seeds) if (trial := Trial(t, seed)) not in assumed)
            trial = next(untried, None)
            if trial is not None:
                promising.append(trial)
                assumed[trial] = curve.at(t) + level
                break
    return promising


def _fit(plan: SearchPlan, results: dict[Trial, float]) -> Curve:
    """Return the curve of the quality at the plan's temperatures."""
    observations = [Observation(trial.temperature, trial.seed, quality) for trial, quality in results.items()]
    return fit_curve(observations, plan.temperatures)


def _middle_temperature(curve: Curve, trials: Iterable[Trial]) -> float:
    """Return the temperature that was tried and is nearest to the middle of the curve's interval."""
    return curve.nearest_to_middle(sorted({trial.temperature for trial in trials}))


def _without_teacher(seed: int) -> Trial:
    """Return the trial of a student that learns from hard labels alone."""
    return Trial(1.0, seed, alpha=0.0)
