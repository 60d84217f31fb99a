"""The sentences about a comparison say what its numbers say."""

import math
import re

import numpy as np
import pytest
import torch

from limbeck.commands.arms import ALONE, HARD, all_arms, arms_of_numbers, soft_arm, transfer_arm
from limbeck.commands.findings import (
    comparison_findings,
    confidence_finding,
    describe_gain,
    findings_of_numbers,
    headline_of_comparison,
    headline_of_run,
    teacher_findings,
)
from limbeck.evaluation import ArmResult, Estimate
from limbeck.tasks import Classification


def result(name, accuracies, validation):
    return ArmResult(name, {"accuracy": accuracies, "validation_accuracy": [validation] * len(accuracies)})


def arms(*, has_transfer_set):
    reached = {
        ALONE.name: ([0.80, 0.81, 0.82], 0.8),
        soft_arm(1).name: ([0.85, 0.86, 0.87], 0.80),  # the better on test
        soft_arm(4).name: ([0.83, 0.84, 0.85], 0.85),  # the better on validation
        HARD.name: ([0.90, 0.91, 0.92], 0.9),
        transfer_arm(1).name: ([0.90, 0.93, 0.90], 0.92),
        transfer_arm(4).name: ([0.89, 0.92, 0.91], 0.9),
    }
    names = [arm.name for arm in all_arms([1, 4], has_transfer_set=has_transfer_set)]
    return {name: result(name, *reached[name]) for name in names}


def test_the_temperature_is_chosen_on_validation():
    softness, temperature = comparison_findings(arms(has_transfer_set=False), [1, 4])
    assert (
        "soft targets (T = 4) over labels alone: +3.0 ± 0.0 points (95 % interval of 3 seeds: +3.0 to +3.0), a gain"
        in softness
    )
    assert temperature == (
        "Temperature: on the labelled examples, T = 4 over T = 1: -2.0 ± 0.0 points (95 % interval of 3 seeds: -2.0 to -2.0), "
        "a loss."
    )


def test_the_transfer_set_is_compared_with_the_teachers_hard_labels():
    softness, temperature, transfer = comparison_findings(arms(has_transfer_set=True), [1, 4])
    assert (
        "on the transfer set, soft targets (T = 1) over the teacher's hard labels: +0.0 ± 1.2 points (95 % interval of 3 "
        "seeds: -5.0 to +5.0), no clear gain or loss" in softness
    )
    assert "on the transfer set: -0.3 ± 0.7 points (95 % interval of 3 seeds: -3.2 to +2.5), no clear" in temperature
    assert transfer.startswith(
        "Transfer set: the unlabelled examples (T = 1) over the labelled ones alone (T = 4): +7.0"
    )


def test_one_temperature_has_nothing_to_compare():
    found = {name: arm for name, arm in arms(has_transfer_set=False).items() if name != soft_arm(1).name}
    assert [line.split(":")[0] for line in comparison_findings(found, [4])] == ["Softness"]


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (Estimate(0.031, 0.002, 5, 0.006), "+3.1 ± 0.2 points (95 % interval of 5 seeds: +2.5 to +3.7), a gain"),
        (Estimate(-0.031, 0.002, 5, 0.006), "-3.1 ± 0.2 points (95 % interval of 5 seeds: -3.7 to -2.5), a loss"),
        (
            Estimate.of([0.046, 0.07]),
            "+5.8 ± 1.2 points (95 % interval of 2 seeds: -9.4 to +21.0), no clear gain or loss",
        ),
        (Estimate(0.05, math.nan), "+5.0 points (one seed: no error known)"),
    ],
)
def test_a_gain_in_points(gain, text):
    assert describe_gain(gain) == text


def test_the_teachers_confidence_at_each_temperature():
    logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])  # 3/4 at T = 1; sqrt(3) / (1 + sqrt(3)) at T = 2
    assert "75.000 % at T = 1, 63.397 % at T = 2" in confidence_finding(Classification(), logits, [1, 2])


@pytest.mark.parametrize(
    ("student", "text"),
    [
        (0.902, "better than its student, by 2.8 points"),
        (0.9302, "as good as its student"),
        (0.95, "worse than its student, by 2.0 points. A better teacher"),
    ],
)
def test_whether_the_teacher_is_better_than_its_student(student, text):
    (found,) = teacher_findings({"accuracy": 0.93}, student)
    assert text in found
    assert teacher_findings({}, student) == teacher_findings({"accuracy": 0.93}, student, "agreement") == []


def test_gains_of_numbers_are_told_as_they_are():
    for has_labels, texts in ((True, ["Teacher's numbers: ", "Transfer set: "]), (False, ["Distance: "])):
        named = arms_of_numbers("mse", has_labels=has_labels, has_transfer_set=has_labels)
        measured = {arm.name: ArmResult(arm.name, {"r2": [0.1 * i, 0.1 * i + 0.01]}) for i, arm in enumerate(named)}
        found = findings_of_numbers(measured, "r2")
        assert [line.startswith(text) for line, text in zip(found, texts, strict=True)] == [True] * len(texts)
        assert f"{0.1 if has_labels else -0.1:+.3f} ± 0.000 in R²" in found[0]
    (line,) = teacher_findings({"r2": 0.5}, 0.4321, "r2")
    assert "better than its student, by 0.068 in R²" in line


class TestHeadlineOfComparison:
    """The part of the gap that is recovered, and its error, against many test sets drawn at random."""

    def drawn(self, generator, n=400, seeds=4):
        """Return arms and a teacher: labels alone are right on 80 %, soft targets on 86 % and the teacher on 90 %."""
        luck = generator.random(n)  # an easy example is easy for all
        teacher = (luck < 0.9).astype(float)
        alone, soft = ((luck + 0.02 * generator.standard_normal((seeds, n)) < p).astype(float) for p in (0.8, 0.86))
        names = {ALONE.name: alone, soft_arm(1).name: soft}
        arms = {
            name: ArmResult(name, {"accuracy": rows.mean(1).tolist()}, {"accuracy": rows})
            for name, rows in names.items()
        }
        return arms, {"accuracy": teacher}

    def test_the_error_is_the_spread_over_test_sets(self):
        generator = np.random.default_rng(0)
        told = []
        for _ in range(200):
            text = headline_of_comparison(*self.drawn(generator), soft_arm(1).name, "accuracy")
            told.append(
                [float(number) for number in re.match(r"Distillation recovers (\S+) % ± (\S+) of", text).groups()]
            )
        shares, errors = np.array(told).T
        assert shares.mean() == pytest.approx(60, abs=1.5)
        assert errors.mean() == pytest.approx(shares.std(), rel=0.2)

    def test_hard_labels_of_the_same_examples_are_told_beside_it(self):
        arms, teacher = self.drawn(np.random.default_rng(0))
        chosen = transfer_arm(1).name
        arms |= {chosen: arms[soft_arm(1).name], HARD.name: arms[ALONE.name]}
        text = headline_of_comparison(arms, teacher, chosen, "accuracy")
        assert text.endswith(" The teacher's hard labels of the same examples recover 0 % ± 0.")

    def test_without_a_gap_no_share_is_told(self):
        arms, teacher = self.drawn(np.random.default_rng(0))
        worse = {"accuracy": arms[ALONE.name].by_example["accuracy"][0]}
        text = headline_of_comparison(arms, worse, soft_arm(1).name, "accuracy")
        assert text.startswith("There is no clear gap to recover between labels alone (")
        assert (
            headline_of_comparison({soft_arm(1).name: arms[soft_arm(1).name]}, teacher, soft_arm(1).name, "accuracy")
            == ""
        )
        assert headline_of_comparison(arms, {}, soft_arm(1).name, "accuracy") == ""

    def test_one_seed_has_no_error(self):
        arms, teacher = self.drawn(np.random.default_rng(0), seeds=1)
        assert re.match(
            r"Distillation recovers \d+ % of", headline_of_comparison(arms, teacher, soft_arm(1).name, "accuracy")
        )


def test_the_headline_of_a_run():
    student, teacher = {"parameters": 10, "accuracy": 0.9}, {"parameters": 400, "accuracy": 0.95}
    assert headline_of_run({"student": student, "teacher": teacher}, "accuracy") == (
        "The student reaches 90.0 % accuracy on the test set with 2.5 % of its teacher's parameters; "
        "the teacher reaches 95.0 % accuracy."
    )
    assert headline_of_run({"student": student}, "accuracy") == "The student reaches 90.0 % accuracy on the test set."
    assert headline_of_run({"student": {"parameters": 10}}, "accuracy") == ""
