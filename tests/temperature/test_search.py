"""The search, on students whose quality is known: what it chooses, how it continues, and how workers share it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from limbeck.interruption import Interrupted
from limbeck.temperature import TEMPERATURES, Quality, SearchPlan, Trial, search
from limbeck.temperature.journal import Journal
from limbeck.temperature.search import choose


def quality(trial, *, top=3.0, noise=0.002, alone=0.85):
    """Return the quality of a trial's student: a hill, an effect of the seed, and noise that depends on the trial alone."""
    key = [trial.seed, round(1000 * trial.temperature), round(100 * (trial.alpha or 0)), trial.alpha is None]
    noise = (
        noise * np.random.default_rng(key).standard_normal()
        + 0.01 * np.random.default_rng(trial.seed).standard_normal()
    )
    if trial.alpha == 0:
        return alone + noise
    bonus = (
        {"reverse_kl": 0.02, "jsd": -0.02, None: 0.0}[trial.divergence]
        + {"gap": -0.01, "max_logit": 0.01, None: 0.0}[trial.policy]
        + (0.03 if trial.alpha == 0.5 else 0.0)
    )
    return 0.9 - 0.02 * np.log(trial.temperature / top) ** 2 + noise + bonus


def test_it_finds_the_top_at_a_fifth_of_the_grids_cost():
    for top in (1.0, 3.0, 8.0):
        trained = []

        def train(trial, top=top, trained=trained):
            trained.append(trial)
            return quality(trial, top=top)

        choice = search(train)
        assert choice.temperature in [t for t in TEMPERATURES if 1 / 2.1 < t / top < 2.1]
        assert choice.interval[0] <= choice.temperature <= choice.interval[1]
        assert len(set(trained)) == len(trained) == len(choice.trials)
        assert choice.cost == SearchPlan().cost == 12 < 13 * 5 / 5
        assert choice.worthwhile
        assert choice.gain == pytest.approx(0.05, abs=0.02)
        assert 0.0005 < choice.gain_error < 0.025


def test_the_regret_is_small_over_many_searches():
    """The regret is how far the true quality at the chosen temperature is below that at the best one."""
    regrets = []
    for i in range(12):
        top = float(np.exp(np.random.default_rng(i).uniform(np.log(0.5), np.log(20))))

        def train(trial, top=top, i=i):
            return quality(Trial(trial.temperature, trial.seed + 100 * i, trial.alpha), top=top)

        regrets.append(0.02 * np.log(search(train).temperature / top) ** 2)
    assert np.mean(regrets) < 0.003


def test_it_says_when_no_teacher_is_better():
    choice = search(lambda trial: quality(trial, alone=0.92))
    assert not choice.worthwhile
    assert choice.gain < 0


def judged(trial, *, examples, top=3.0, alone=0.85):
    """Return the quality of a student on a small validation set, example by example; the set is the same for all."""
    easiness = np.random.default_rng(1).random(
        examples
    )  # an example is right when it is easier than the student is bad
    return Quality.of_scores(easiness < quality(trial, top=top, alone=alone))


@pytest.mark.parametrize(
    ("alone", "examples", "answer"),
    [(0.7, 1000, "pays"), (0.97, 1000, "does not pay"), (0.89, 60, "cannot be told"), (0.97, 20, "cannot be told")],
)
def test_three_verdicts_from_students_that_are_judged_example_by_example(alone, examples, answer):
    choice = search(lambda trial: judged(trial, examples=examples, alone=alone))
    verdict = choice.verdict
    assert verdict.answer == answer
    assert choice.worthwhile == (answer == "pays")
    assert (verdict.examples, verdict.gain, verdict.error) == (examples, choice.gain, choice.gain_error)
    assert verdict.students == 12
    assert verdict.validation_error is not None
    assert f"{examples} validation examples" in verdict.describe()


def test_a_quality_chooses_as_its_number_does(tmp_path):
    """What is known of the examples changes the verdict and nothing else."""
    plain = search(quality)
    known = search(lambda trial: Quality(quality(trial), np.arange(900) < 700), journal=tmp_path / "journal")
    assert (known.temperature, known.interval, known.trials) == (plain.temperature, plain.interval, plain.trials)
    assert plain.verdict.validation_error is None
    assert (known.verdict.gain, known.verdict.examples) == (pytest.approx(0), 900)  # all have the same scores
    again = search(lambda trial: pytest.fail("all students are known"), journal=tmp_path / "journal")
    assert again.verdict == known.verdict
    assert choose(SearchPlan(), dict(plain.trials)).verdict == plain.verdict


def test_a_temperature_between_those_that_were_trained_can_be_chosen():
    choice = search(lambda trial: quality(trial, top=5.0, noise=0.0))
    assert choice.temperature in (4.0, 6.0)
    assert not any(trial.temperature == choice.temperature for trial, _ in choice.trials)


def test_one_seed_is_a_cheap_setting():
    choice = search(quality, SearchPlan(seeds=1))
    assert choice.cost == 7
    assert choice.temperature in (1.5, 2.0, 3.0, 4.0, 6.0)


def test_alpha_and_divergence_are_tried_at_the_chosen_temperature():
    plan = SearchPlan(alphas=(0.3, 0.5), divergences=("reverse_kl", "jsd"), policies=("gap", "max_logit"))
    choice, plain = search(quality, plan), search(quality)
    assert (choice.alpha, choice.divergence, choice.policy) == (0.5, "reverse_kl", "max_logit")
    assert (choice.temperature, choice.interval) == (
        plain.temperature,
        plain.interval,
    )  # the other settings do not move it
    others = [trial for trial, _ in choice.trials if trial.divergence or trial.alpha or trial.policy]
    assert {trial.temperature for trial in others} == {choice.temperature}
    assert len(others) == 12
    assert search(quality, SearchPlan(alphas=(0.3,), divergences=("jsd",))).divergence is None


def test_it_continues_where_it_stopped(tmp_path):
    count = 0

    def train(trial):
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt
        return quality(trial)

    with pytest.raises(KeyboardInterrupt):
        search(train, journal=tmp_path / "journal")
    again = search(train, journal=tmp_path / "journal")
    assert count == 1 + len(again.trials)  # the interrupted trial was trained twice
    assert again.temperature == search(quality).temperature
    assert search(train, journal=tmp_path / "journal").trials == again.trials
    assert count == 1 + len(again.trials)


WORKER = """
import json, sys, time
from pathlib import Path
sys.path[:0] = [{here!r}]
from limbeck.temperature import search
from test_search import quality
def train(trial):
    with open(sys.argv[2], "a") as file:
        file.write(json.dumps([trial.temperature, trial.seed, trial.alpha]) + "\\n")
    time.sleep(0.1)
    return quality(trial)
Path(sys.argv[2] + ".ready").touch()
while not Path(sys.argv[1]).with_name("begin").exists():  # so that both begin together, however long their imports take
    time.sleep(0.01)
print(search(train, journal=sys.argv[1]).temperature)
"""


def start(folder, name):
    """Start a worker that records its trials in the file ``name``, and return its process."""
    script = WORKER.format(here=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(folder / "journal"), str(folder / name)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition, seconds=120):
    """Wait for a condition, at most so many seconds."""
    deadline = time.time() + seconds
    while not condition() and time.time() < deadline:
        time.sleep(0.01)


def trained(folder):
    """Return the trials that all workers have recorded."""
    return [tuple(json.loads(line)) for path in folder.glob("by-?") for line in path.read_text().splitlines()]


def test_workers_share_one_search_and_repeat_the_trial_of_a_killed_one(tmp_path):
    first, second = start(tmp_path, "by-1"), start(tmp_path, "by-2")
    wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2)
    (tmp_path / "begin").touch()
    wait_until(lambda: len(trained(tmp_path)) >= 3 and (tmp_path / "by-1").exists())
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = second.communicate(timeout=120)  # the second finds that the first is dead
    assert second.returncode == 0, err
    assert out.strip() == str(search(quality).temperature)
    done = trained(tmp_path)
    assert {path.name for path in tmp_path.glob("by-?")} == {"by-1", "by-2"}
    assert len(set(done)) == len(search(quality).trials)
    assert len(done) <= len(set(done)) + 2  # the trial of the killed worker, and at most one race


def test_the_trial_of_a_lost_worker_on_another_machine_is_repeated(tmp_path):
    """Another worker waits for the lost worker's student, and trains it when it takes far longer than any other."""
    lost = Journal(tmp_path / "journal", "temperature", host="elsewhere")  # it never reports
    assert lost.claim([Trial(0.25, 0)]) is not None
    started = time.time()
    found = search(quality, journal=tmp_path / "journal", patience=1.5)
    assert found.temperature == search(quality).temperature
    assert len(found.trials) == SearchPlan().cost
    assert time.time() - started > 1.0


class TestErrors:
    def test_a_quality_that_is_not_a_number_is_refused(self):
        with pytest.raises(ValueError, match=r"the student of Trial\(temperature=0.25, seed=0, .* quality of nan"):
            search(lambda trial: float("nan"))


def test_who_stops_a_search_is_told_what_is_finished(tmp_path):
    trained = []

    def train(trial):
        if len(trained) == 3:
            raise Interrupted(signal.SIGINT)
        trained.append(trial)
        return quality(trial)

    with pytest.raises(Interrupted) as caught:
        search(train, journal=tmp_path / "journal")
    assert caught.value.finished == "3 of 12 students are finished and kept."
