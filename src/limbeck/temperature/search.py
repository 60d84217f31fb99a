"""Choose T by training a dozen students.

    1. Train students at five temperatures from 0.25 to 20 with two seeds, and two students without a teacher.
    2. Fit a smooth curve of their quality over log2 T.
    3. Choose the temperature where the curve is highest, whether students were trained at it or not.

The design is fixed, so all students can be trained at the same time. Students of one seed start from the same weights and see
the examples in the same order, so they differ by T alone. All students are trained to the end: short trainings prefer lower
temperatures, so a search that stops bad students early would choose a T that is too low. Other values of alpha, other
divergences and policies are tried at the chosen T. docs/explanation/temperature.md has the figures behind each of these rules.

Optuna keeps the students in a journal file. A search that was killed continues where it stopped, and several workers on
several machines share one search when they run the same command on the same file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from limbeck.interruption import Interrupted
from limbeck.temperature.gaussian_process import Curve, Observation, fit_curve
from limbeck.temperature.journal import Journal
from limbeck.temperature.quality import Quality
from limbeck.temperature.search_plan import PAIRED_SEEDS, SearchPlan, Trial
from limbeck.temperature.verdict import Verdict, compare, judge

Train = Callable[[Trial], float | Quality]
"""Trains the student of a trial and returns its quality on validation data; higher is better. A ``Quality`` also tells of each
validation example, which the verdict needs."""


@dataclass(frozen=True)
class Choice:
    """What a search found."""

    temperature: float
    interval: tuple[float, float]
    """The lowest and highest temperature around the best one whose quality is within one standard error of the best."""
    gain: float
    """The gain over the student without a teacher at this temperature, in units of the score; see ``verdict``."""
    gain_error: float
    """The standard error of the gain, over seeds and, if ``train`` told of each example, over validation sets."""
    alpha: float | None = None
    """A weight of the soft term that is better than the config's own; None when there is none."""
    divergence: str | None = None
    """A divergence that is better than the config's own; None when there is none."""
    policy: str | None = None
    """A policy that is better than the temperature; None when there is none."""
    curve: Curve | None = None
    """The fitted curve, from which the temperature was chosen."""
    trials: list[tuple[Trial, Quality]] = field(default_factory=list)
    """All students with their quality."""
    verdict: Verdict | None = None
    """Whether the teacher pays, does not pay, or cannot be told to, and what that rests on."""
    metric: str = "accuracy"
    """What the score of a student is."""

    @property
    def worthwhile(self) -> bool:
        """Return whether the teacher pays. False does not mean that it does not: see ``verdict.answer``."""
        return self.verdict is not None and self.verdict.answer == "pays"

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
    curve = _fit(plan, {trial: quality.value for trial, quality in qualities.items()})
    own = [Trial(curve.best, seed) for seed in PAIRED_SEEDS]

    def better_setting(setting: str, given: Sequence[Any]) -> Any:
        """Return the value that is better than the config's own by the most, and by a standard error; or None."""
        gains = {}
        for value in given:
            pairs = [(qualities[replace(trial, **{setting: value})], qualities[trial]) for trial in own]
            gains[value], error = compare(pairs, curve.noise)
            if gains[value] <= error:
                del gains[value]
        return max(gains, key=lambda value: gains[value], default=None)

    judged = {trial: qualities[trial] for trial in [*_curve_trials(plan), *_trials_without_teacher()]}
    verdict = judge(judged, curve.best)
    return Choice(
        temperature=curve.best,
        interval=curve.interval,
        gain=verdict.gain,
        gain_error=verdict.error,
        alpha=better_setting("alpha", plan.alphas),
        divergence=better_setting("divergence", plan.divergences),
        policy=better_setting("policy", plan.policies),
        curve=curve,
        trials=sorted(qualities.items(), key=lambda item: str(item[0])),
        verdict=verdict,
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


def _missing_trials(plan: SearchPlan, results: Mapping[Trial, float]) -> list[Trial]:
    """Return the trials without a result in the first round that is not finished; [] when all rounds are."""
    for round_ in _rounds(plan, results):
        if missing := [trial for trial in round_ if trial not in results]:
            return missing
    return []


def _rounds(plan: SearchPlan, results: Mapping[Trial, float]) -> Iterator[list[Trial]]:
    """Yield the trials of each round. The last rounds depend on the temperature that the first one finds."""
    yield [*_curve_trials(plan), *_trials_without_teacher()]
    others = (("alpha", plan.alphas), ("divergence", plan.divergences), ("policy", plan.policies))
    if not any(given for _, given in others):
        return
    own = [Trial(_fit(plan, results).best, seed) for seed in PAIRED_SEEDS]
    yield own
    yield [replace(trial, **{setting: value}) for setting, given in others for trial in own for value in given]


def _fit(plan: SearchPlan, results: Mapping[Trial, float]) -> Curve:
    """Return the curve of the quality at the plan's temperatures, fitted to the students of the first round."""
    trials = _curve_trials(plan)
    return fit_curve([Observation(t.temperature, t.seed, results[t]) for t in trials], plan.temperatures)


def _curve_trials(plan: SearchPlan) -> list[Trial]:
    """Return the trials that the curve is fitted to, whatever else has been trained."""
    return [Trial(t, seed) for seed in range(plan.seeds) for t in plan.trained]


def _trials_without_teacher() -> list[Trial]:
    """Return the trials of students that learn from hard labels alone."""
    return [Trial(1.0, seed, alpha=0.0) for seed in PAIRED_SEEDS]
