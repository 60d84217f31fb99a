"""Three verdicts, and errors that include the validation set's own, against populations where the true gain is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.temperature import Quality, Trial, Verdict
from limbeck.temperature.verdict import compare, judge

PLAN = [Trial(t, seed) for seed in (0, 1) for t in (0.25, 1.0, 3.0, 8.0, 20.0)] + [
    Trial(1.0, s, alpha=0.0) for s in (0, 1)
]


def students(gain, examples, seed):
    """Return twelve students on a validation set that is drawn for them; a teacher adds ``gain`` to the accuracy at every T.

    An example is easy or hard for all students alike. Which of the unsure ones a student gets is its own luck.
    """
    generator = np.random.default_rng(seed)
    unsure = generator.random(examples) < 0.2
    known = generator.random(examples) < 0.75

    def draw(trial):
        chance = np.where(unsure, 0.5 + (0 if trial.alpha == 0 else gain / 0.2), known)
        return Quality.of_scores(generator.random(examples) < chance)

    return {trial: draw(trial) for trial in PLAN}


@pytest.mark.parametrize("gain", [-0.03, 0.0, 0.03])
def test_a_verdict_is_seldom_wrong(gain):
    """Over 60 validation sets of 600 examples."""
    answers = [judge(students(gain, 600, seed), 3.0).answer for seed in range(60)]
    pays, denied = (answers.count(answer) / len(answers) for answer in ("pays", "does not pay"))
    assert (pays if gain <= 0 else denied) <= 0.1
    if gain:
        assert max(pays, denied) > 0.6  # there is enough to tell


def test_the_error_is_the_spread_over_validation_sets():
    """The gains of many validation sets spread as the error of one says."""
    verdicts = [judge(students(0.0, 400, seed), 3.0) for seed in range(80)]
    gains = np.array([v.gain for v in verdicts])
    assert abs(gains.mean()) < 0.006
    assert np.mean([v.error for v in verdicts]) == pytest.approx(gains.std(), rel=0.35)


def test_students_that_are_almost_alike_do_not_hide_the_gain():
    """The scores of students with a teacher differ by one example in a thousand: the unit of the fit is then very small."""
    drawn = np.random.default_rng(0)

    def quality(right):
        return Quality.of_scores(drawn.permutation(1000) < right)

    found = {Trial(t, seed): quality(900 + (t == 1.0 and seed)) for t in (0.25, 1.0, 3.0, 8.0, 20.0) for seed in (0, 1)}
    found |= {Trial(1.0, seed, alpha=0.0): quality(800) for seed in (0, 1)}
    assert judge(found, 3.0).gain == pytest.approx(0.1, abs=0.001)  # it was 0.05


def test_a_few_images_tell_little():
    """All students with a teacher lose the same five images of forty: -12.5 points, whose error is not 0."""
    losing, winning = Quality.of_scores([False] * 5 + [True] * 35), Quality.of_scores([True] * 40)
    verdict = judge({trial: winning if trial.alpha == 0 else losing for trial in PLAN}, 3.0)
    assert verdict.gain == pytest.approx(-0.125, abs=1e-3)
    assert verdict.validation_error == pytest.approx(math.sqrt(0.125 * 0.875 / 40), rel=0.01)
    assert verdict.error > math.hypot(verdict.validation_error, 1.5 / 40)


def test_the_brier_score_tells_earlier():
    """Students that are better sure, and right as often."""
    rng = np.random.default_rng(0)
    right = rng.random(500) < 0.8

    def quality(trial):
        brier = np.where(right, 0.1, 0.9) - (0 if trial.alpha == 0 else 0.04) + 0.002 * rng.standard_normal(500)
        scores = right ^ (rng.random(500) < 0.01 - (0 if trial.alpha == 0 else 0.004))
        return Quality(0.0, scores, brier)

    verdict = judge({trial: quality(trial) for trial in PLAN}, 3.0)
    assert verdict.brier_gain == pytest.approx(0.75 * 0.04, abs=0.003)
    assert verdict.brier_gain > verdict.brier_error
    assert verdict.gain < 1.64 * verdict.error  # the accuracy alone could not tell
    assert verdict.answer == "pays"
    assert "by the calibrated Brier score" in verdict.describe()


def test_numbers_alone_leave_the_validation_set_out():
    verdict = judge({trial: Quality(0.8 if trial.alpha == 0 else 0.9) for trial in PLAN}, 3.0)
    assert (verdict.validation_error, verdict.examples, verdict.students) == (None, None, 12)
    assert "The error leaves out that of the validation set" in verdict.describe()


def test_no_students_without_a_teacher():
    verdict = judge({Trial(t, 0): Quality(0.5) for t in (1.0, 2.0, 4.0)}, 2.0)
    assert verdict.answer == "cannot be told"
    assert verdict.describe().startswith("It cannot be told")


def test_pairs_of_one_seed():
    gain, error = compare([(Quality(0.9), Quality(0.8)), (Quality(0.92), Quality(0.8))], 0.01)
    assert (gain, error) == (pytest.approx(0.11), pytest.approx(0.01))


numbers = {"gain": st.floats(-1, 1), "training": st.floats(0, 1), "n": st.integers(1, 10**6)}


@given(**numbers, validation=st.floats(0, 1) | st.none())
def test_the_answer_by_the_score_alone(gain, training, validation, n):
    verdict = Verdict(gain, training, validation, students=12, examples=n)
    s = math.sqrt(training**2 + (validation or 0) ** 2 + (1.5 / n) ** 2)
    assert verdict.error == pytest.approx(s)
    expected = {"pays": gain > 1.64 * s, "does not pay": gain + 1.28 * s < 0.003}
    assert sum(expected.values()) <= 1
    assert verdict.answer == next((answer for answer, holds in expected.items() if holds), "cannot be told")


@given(**numbers, b=st.floats(-1, 1), e=st.floats(0, 1))
def test_the_answer_by_both(gain, training, n, b, e):
    verdict = Verdict(gain, training, 0.0, 12, n, b, e)
    s = verdict.error
    pays = (b > e and gain > 0) or (gain > 1.64 * s and b > -e)
    denied = gain + 1.28 * s < 0.003 and b + 1.28 * e < 0.003
    assert verdict.answer == ("pays" if pays else "does not pay" if denied else "cannot be told")


@pytest.mark.parametrize(
    ("gain", "end"),
    [
        (0.05, "The teacher pays."),
        (-0.05, "The teacher does not pay: a gain of 0.3 points or more is unlikely."),
        (0.008, "whether the teacher pays; about 6000 more validation examples would tell."),
    ],
)
def test_the_sentence(gain, end):
    verdict = Verdict(gain, 0.003, 0.01, students=12, examples=1000)
    start = f"Over the same student without a teacher: {100 * gain:+.1f} ± 1.1 points of validation accuracy "
    said = verdict.describe(labels=200)
    assert said.startswith(f"{start}(12 students, 1000 validation examples, 200 training labels). ")
    assert said.endswith(end)
    assert "labels" not in verdict.describe()


@given(gain=st.floats(0.002, 0.1), training=st.floats(1e-3, 0.1), validation=st.floats(1e-3, 0.1))
def test_what_is_needed_would_tell(gain, training, validation):
    """With so many more students, or examples, the same gain is clear."""
    verdict = Verdict(gain, training, validation, students=12, examples=10**4)
    if verdict.answer != "cannot be told" or "both" in verdict.needed:
        return
    more = int(verdict.needed.split()[1])
    if "trainings" in verdict.needed:
        training *= math.sqrt(12 / (12 + more))
    else:
        validation *= math.sqrt(10**4 / (10**4 + more))
    after = math.hypot(training, validation, 1.5e-4)
    assert gain > 1.63 * after or (gain <= 0.0015 and gain + 1.28 * after < 0.003)
