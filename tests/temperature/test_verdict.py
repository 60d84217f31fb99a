"""Three verdicts, and errors that include the validation set's own, against populations where the true gain is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ArgumentError
from limbeck.temperature import Quality, Verdict
from limbeck.temperature.verdict import judge


def drawn_pairs(gain, examples, seed, seeds=2):
    """Return pairs of students whose true accuracies differ by ``gain``, on a validation set that is drawn for them.

    An example is easy or hard for both students alike, and which of the unsure ones a student gets is its own luck.
    """
    generator = np.random.default_rng(seed)
    easiness = generator.choice([0.02, 0.5, 0.98], size=examples, p=[0.05, 0.2, 0.75])
    with_teacher = np.where(easiness == 0.5, 0.5 + gain / 0.2, easiness)
    return [
        tuple(Quality.of_correct(generator.random(examples) < p) for p in (with_teacher, easiness))
        for _ in range(seeds)
    ]


@pytest.mark.parametrize("examples", [100, 300, 1000])
@pytest.mark.parametrize("gain", [-0.02, 0.0, 0.005, 0.03])
def test_a_verdict_is_seldom_wrong(gain, examples):
    """Over 400 validation sets. Errors that hold the training's noise alone, which is 0 here, would decide by a coin."""
    answers = [judge(drawn_pairs(gain, examples, seed), noise=0.0).answer for seed in range(400)]
    pays, denied = (answers.count(answer) / len(answers) for answer in ("pays", "does not pay"))
    if gain <= 0:
        assert pays <= 0.08  # 0.05, and what 400 draws may add
    else:
        assert denied <= 0.10
    if abs(gain) >= 0.02 and examples == 1000:
        assert max(pays, denied) > 0.8  # there is enough to tell


def test_the_error_is_the_spread_over_validation_sets():
    """The gains of many validation sets spread as the error of one says."""
    verdicts = [judge(drawn_pairs(0.0, 400, seed), noise=0.0) for seed in range(400)]
    assert np.mean([v.error for v in verdicts]) == pytest.approx(np.std([v.gain for v in verdicts]), rel=0.1)


def test_two_seeds_of_forty_images_tell_little():
    """Both seeds lose the same five images of forty: -12.5 points, whose error is not 0."""
    without = Quality.of_correct([True] * 40)
    with_teacher = Quality.of_correct([False] * 5 + [True] * 35)
    verdict = judge([(with_teacher, without)] * 2, noise=0.0)
    assert verdict.gain == pytest.approx(-0.125)
    assert verdict.error == pytest.approx(math.hypot(math.sqrt(0.125 * 0.875 / 40), 1.5 / 40))
    assert judge([(without, with_teacher)] * 2, noise=0.1).answer == "cannot be told"


def test_examples_that_both_get_right_or_wrong_add_no_error():
    both = [True] * 50 + [False] * 50
    shared = judge([(Quality.of_correct(both), Quality.of_correct(both))], noise=0.0)
    assert shared.validation_error == 0.0
    assert shared.error == pytest.approx(0.015)  # 1.5 / n
    apart = [Quality(0.5, math.sqrt(0.25 / 100), 100)] * 2  # without the examples, they count as independent
    assert judge([tuple(apart)], noise=0.0).validation_error == pytest.approx(math.sqrt(2 * 0.25 / 100))


def test_numbers_alone_leave_the_validation_set_out():
    verdict = judge([(Quality(0.9), Quality(0.8)), (Quality(0.92), Quality(0.8))], noise=0.01)
    assert (verdict.validation_error, verdict.examples, verdict.seeds) == (None, None, 2)
    assert verdict.error == pytest.approx(0.01)
    assert "The error leaves out that of the validation set" in verdict.describe()
    one_known = judge([(Quality(0.9, 0.01, 100), Quality(0.8))], noise=0.01)
    assert (one_known.validation_error, one_known.examples) == (None, None)


def test_no_pairs():
    verdict = judge([], noise=0.01)
    assert verdict.answer == "cannot be told"
    assert math.isnan(verdict.gain)
    assert verdict.describe().startswith("It cannot be told")


@given(gain=st.floats(-1, 1), training=st.floats(0, 1), validation=st.floats(0, 1) | st.none(), n=st.integers(1, 10**6))
def test_the_answer_follows_from_gain_and_error(gain, training, validation, n):
    verdict = Verdict(gain, training, validation, seeds=2, examples=n)
    s = math.sqrt(training**2 + (validation or 0) ** 2 + (1.5 / n) ** 2)
    assert verdict.error == pytest.approx(s)
    expected = {"pays": gain > 1.64 * s, "does not pay": gain + 1.28 * s < 0.003}
    assert sum(expected.values()) <= 1
    assert verdict.answer == next((answer for answer, holds in expected.items() if holds), "cannot be told")


@pytest.mark.parametrize(
    ("gain", "end"),
    [
        (0.05, "The teacher pays."),
        (-0.05, "The teacher does not pay: a gain of 0.3 points or more is unlikely."),
        (0.005, "These students cannot tell whether the teacher pays; more validation examples would help most."),
    ],
)
def test_the_sentence(gain, end):
    verdict = Verdict(gain, 0.003, 0.01, seeds=3, examples=1000)
    start = f"Over the same student without a teacher: {100 * gain:+.1f} ± 1.1 points of validation accuracy "
    assert verdict.describe(labels=200) == f"{start}(3 seeds, 1000 validation examples, 200 training labels). {end}"
    assert "labels" not in verdict.describe()


def test_what_would_help_most():
    """On forty examples that all students get right alike, the set is too small, and no seed helps."""
    assert "more validation examples would" in Verdict(0.0, 1e-9, 0.0, seeds=2, examples=40).describe()
    assert "more seeds would" in Verdict(0.0, 0.1, 0.01, seeds=2, examples=4000).describe()


class TestQuality:
    def test_of_booleans(self):
        for correct in ([True, False, True, True], np.array([1, 0, 1, 1]), torch.tensor([True, False, True, True])):
            quality = Quality.of_correct(correct)
            assert (quality.value, quality.examples) == (0.75, 4)
            assert quality.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
            assert quality.correct.tolist() == [True, False, True, True]

    def test_faults(self):
        for given_, argument in (([], "correct"), ([[True]], "correct")):
            with pytest.raises(ArgumentError) as caught:
                Quality.of_correct(given_)
            assert caught.value.argument == argument
        for settings, argument in (
            ({"standard_error": -0.1}, "standard_error"),
            ({"standard_error": math.nan}, "standard_error"),
            ({"examples": 0}, "examples"),
            ({"examples": 3, "correct": np.array([True])}, "correct"),
        ):
            with pytest.raises(ArgumentError) as caught:
                Quality(0.5, **settings)
            assert caught.value.argument == argument
