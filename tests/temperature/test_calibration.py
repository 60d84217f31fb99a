"""A calibration that the labels do not determine says so, and a teacher that knows nothing is found out."""

import math

import pytest
import torch

from limbeck.temperature.analysis import analyze


class TestEdgeOfCalibration:
    LABELS = torch.arange(40) % 4

    def calibrate(self, logits):
        return analyze(logits, self.LABELS).calibration

    def test_inside_the_range_nothing_is_remarked(self):
        noise = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found = self.calibrate(torch.nn.functional.one_hot(self.LABELS, 4) + noise)
        assert not found.at_edge
        assert found.remark == ""

    @pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
    def test_a_teacher_without_mistakes(self, scale):
        found = self.calibrate(scale * torch.nn.functional.one_hot(self.LABELS, 4).double())
        assert found.at_edge
        assert found.temperature == pytest.approx(math.exp(-3))
        assert found.remark == (
            "T = 0.0498 is the lowest that was tried, and no best one was found: the logits are very small, or the teacher "
            "makes no mistakes on these labels."
        )

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_a_teacher_that_says_nothing_or_the_opposite(self, scale):
        found = self.calibrate(scale * torch.nn.functional.one_hot(self.LABELS, 4).double())
        assert found.at_edge
        assert found.temperature == pytest.approx(math.exp(4))
        assert "highest" in found.remark

    def test_a_label_that_the_teacher_rules_out(self):
        logits = torch.nn.functional.one_hot(self.LABELS, 4).double()
        logits[0, 0] = -math.inf
        found = self.calibrate(logits)
        assert (found.at_edge, found.temperature, found.nll_after) == (True, 1.0, math.inf)
        assert found.remark.startswith("No temperature calibrates the teacher")


class TestChance:
    def test_noise_is_nearly_always_found_out(self):
        for seed in range(40):
            generator = torch.Generator().manual_seed(seed)
            noise, labels = torch.randn(200, 10, generator=generator), torch.randint(10, (200,), generator=generator)
            assert analyze(noise, labels, temperatures=[1]).calibration.better_than_chance is False, seed

    def test_a_teacher_of_frequencies_is_not_better_than_chance(self):
        """It is right more often than a guess, and knows nothing of an example."""
        labels = torch.tensor([0] * 160 + [1] * 30 + [2] * 10)
        teacher = torch.tensor([0.8, 0.15, 0.05]).log().expand(200, 3)
        assert analyze(teacher, labels).calibration.better_than_chance is False
        knows = teacher + torch.nn.functional.one_hot(labels, 3)  # still names the first class each time
        assert analyze(knows, labels).calibration.better_than_chance is True
