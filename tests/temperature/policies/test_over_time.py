"""Policies that depend on the progress of training, compared with their formulas."""

import math

import pytest
import torch
from torch.nn.functional import log_softmax

from limbeck.temperature import policy_from
from support.policies import LABELS, STUDENT, TEACHER


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [8.0, 6.0, 5.0, 2.0, 2.0]),
        ("cosine", [8.0, 5 + 3 * math.cos(math.pi / 3), 5.0, 2.0, 2.0]),
        ("exponential", [8.0, 8 * 4 ** (-1 / 3), 4.0, 2.0, 2.0]),
    ],
)
def test_annealing(name, expected):
    policy = policy_from({"policy": name, "start": 8, "end": 2, "over": 0.5})
    found = [policy(STUDENT, None, None, p).temperature for p in (0, 1 / 6, 0.25, 0.5, 1.0)]
    assert found == pytest.approx(expected)


def test_the_temperature_follows_the_gap_between_student_and_teacher():
    policy = policy_from({"policy": "gap", "start": 8.0, "lowest": 1.0, "momentum": 0.9})
    one_hot = torch.nn.functional.one_hot(LABELS, 5).double()
    t = 8.0
    for progress, student in ((0.5, STUDENT), (0.25, -9 * one_hot), (1.0, STUDENT)):
        teacher = 9 * one_hot
        entropy = [-log_softmax(z, -1).gather(-1, LABELS[:, None]).mean().item() for z in (student, teacher)]
        gap = entropy[0] - entropy[1]
        target = 8 * (1 + math.cos(math.pi * progress)) / 2 * (gap / (gap - 1) if gap > 1 else 1)
        t = 0.9 * t + 0.1 * min(max(target, 1.0), 8.0)
        assert policy(student, teacher, LABELS, progress).temperature == pytest.approx(t)
    policy.eval()
    assert policy(STUDENT, TEACHER, LABELS, 0.9).temperature == pytest.approx(t)
