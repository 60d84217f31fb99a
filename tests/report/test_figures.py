"""Figures show the numbers that they were given."""

import math

import pytest
import torch
from torch import nn

from limbeck.config import config_from
from limbeck.data import load_splits
from limbeck.evaluation import ArmResult
from limbeck.report import comparison_figure, loss_figure, soft_target_figure, uncertain_images_figure
from limbeck.tasks import Classification


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_comparison_has_a_point_for_each_arm():
    arms = {
        "alone": ArmResult("alone", {"accuracy": [0.8], "nll": [0.5]}),
        "soft": ArmResult("soft", {"accuracy": [0.9, 0.92], "nll": [0.25, 0.35]}),
    }
    unlabelled = {"agrees": ArmResult("agrees", {"agreement": [0.7]})}
    (axes,) = comparison_figure({"accuracy": 0.95}, arms).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["alone", "soft"]
    assert texts(axes) == ["80.0 %   NLL 0.50", "91.0 ± 1.0 %   NLL 0.30", "teacher 95.0 %"]
    points = [container.lines[0].get_xydata()[0].tolist() for container in axes.containers]
    assert points == [[pytest.approx(80), 0], [pytest.approx(91), 1]]
    (axes,) = comparison_figure({}, unlabelled, "agreement").axes
    assert texts(axes) == ["70.0 %"]
    assert axes.get_xlabel().startswith("test agreement with the teacher, %")


@pytest.mark.parametrize("channels", [1, 3])
def test_soft_targets_are_the_softened_probabilities(channels):
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 2 * math.log(3)]])
    figure = soft_target_figure(Classification(), torch.rand(2, channels, 4, 4), logits, ["cat", "dog"], [1.0, 2.0])
    bars = [[bar.get_height() for bar in axes.patches] for axes in figure.axes if axes.patches]
    root = math.sqrt(3)
    expected = [[0.75, 0.25], [root / (1 + root), 1 / (1 + root)], [0.1, 0.9], [0.25, 0.75]]
    assert bars == [pytest.approx(row) for row in expected]
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["T = 1", "T = 2"]
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["cat", "dog"]


def test_the_least_certain_images_come_first():
    values = {"data": {"name": "digits"}, "teacher": {"model": "mlp"}, "student": {"model": "mlp"}}
    splits = load_splits(config_from(values).data, seed=0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    figure = uncertain_images_figure(splits, teacher, [4.0, 1.0, 4.0], images=2)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["T = 1", "T = 4"]
    everything = splits.test.__getitems__(range(len(splits.test)))["pixel_values"]
    certainty = teacher(everything).softmax(-1).amax(-1)
    shown = [max(bar.get_height() for bar in axes.patches) for axes in (figure.axes[1], figure.axes[4])]
    assert shown == pytest.approx(certainty.sort().values[:2].tolist(), rel=1e-5)


def test_the_losses_over_the_steps():
    log = [{"step": 10, "soft_loss": 3.0, "hard_loss": 1.0}, {"step": 10, "eval_loss": 9.0},
           {"step": 20, "soft_loss": 2.0, "hard_loss": 0.5}]  # fmt: skip
    (axes,) = loss_figure(log).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"soft loss": [[10, 3], [20, 2]], "hard loss": [[10, 1], [20, 0.5]]}
