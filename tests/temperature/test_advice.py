"""What is worth trying, on teachers that are made so that it is known."""

import math

import pytest
import torch

from limbeck.temperature.analysis import analyze


class TestConclusion:
    LABELS = torch.arange(300) % 6

    def one_hot(self, size):
        return size * torch.nn.functional.one_hot(self.LABELS, 6).double()

    def noise(self):
        return 3 * torch.randn(300, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def test_an_ordinary_teacher(self):
        found = analyze(
            self.one_hot(4.0) + self.noise() / 30, self.LABELS, temperatures=[0.1, 1.0, 2.0, 4.0, 100.0, 200.0]
        )
        assert found.conclusion == (
            "Worth trying: T from 1 to 100. Below 1 the soft targets are as good as hard labels, though a sharper signal can "
            "still help a student that underfits. Above 100 all temperatures give nearly the same gradient, that of matching "
            "logits."
        )
        assert found.as_dict()["conclusion"] == found.conclusion

    @pytest.mark.parametrize("scale", [500.0, 2000.0])
    def test_a_one_hot_teacher_wants_a_higher_temperature(self, scale):
        found = analyze(self.one_hot(scale), self.LABELS)
        assert found.conclusion.startswith("None of these temperatures is worth trying: up to T = 20 the soft targets")
        advised = float(found.conclusion.rpartition("T = ")[2].rstrip("."))
        exact = scale / math.log(5 * 999)  # where the other five classes have 0.001 of the probability together
        assert exact * 0.95 < advised < 1.35 * exact

    def test_a_teacher_that_rules_all_other_classes_out(self):
        teacher = self.one_hot(1.0).log()  # every column is possible somewhere, so none is absent
        assert analyze(teacher, self.LABELS).conclusion.endswith("gives the other classes a probability of 0.")

    def test_a_teacher_of_noise_has_none(self):
        found = analyze(self.noise(), self.LABELS)
        assert found.calibration.better_than_chance is False
        assert found.conclusion.startswith(
            "No temperature is worth trying: the teacher is not better than chance. Its accur"
        )

    def test_a_teacher_of_tiny_logits_wants_a_lower_temperature(self):
        found = analyze(0.01 * self.one_hot(1.0), self.LABELS)
        assert found.calibration.better_than_chance is True
        assert found.conclusion.endswith("Try lower ones than 0.25.")

    def test_without_labels_it_is_not_known_whether_the_teacher_is_any_good(self):
        assert analyze(self.noise()).conclusion.endswith("to say whether the teacher is better than chance.")
        alike = torch.zeros(300, dtype=torch.long)
        assert analyze(self.noise(), alike).calibration.better_than_chance is None
