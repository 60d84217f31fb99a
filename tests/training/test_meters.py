"""The meters of training and evaluation, compared with numbers by hand and with scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import DefaultFlowCallback

from limbeck import DistillationArguments
from limbeck.losses import LossParts, SparseTargets
from limbeck.tasks import Classification
from limbeck.training.meters import EvaluationMeter, TrainingMeter, logs_after_step

TASK = Classification()


def parts(soft, hard):
    """Return the parts of a loss from two numbers, each of which may be None."""
    soft, hard = (None if term is None else torch.tensor(term) for term in (soft, hard))
    return LossParts(torch.tensor(0.0), soft, hard)


def one_hot(classes):
    return torch.nn.functional.one_hot(torch.tensor(classes), 4).float()


class TestTrainingMeter:
    def test_means_are_over_steps_and_not_over_micro_batches(self):
        meter = TrainingMeter()
        everywhere = torch.tensor([True, True])
        meter.begin_step()  # one micro-batch: 1 of 2 agree
        meter.add(parts(1.0, 2.0), TASK.agreement(one_hot([0, 1]), one_hot([0, 2])), everywhere, None)
        meter.begin_step()  # two micro-batches: 3 of 3 agree, and the masked position does not count
        meter.add(parts(2.0, 0.5), TASK.agreement(one_hot([0, 1]), one_hot([0, 1])), everywhere, 3)
        agreement = TASK.agreement(one_hot([3, 1]), one_hot([3, 1]))
        meter.add(parts(1.0, 0.5), agreement, torch.tensor([True, False]), torch.tensor(3))
        means = meter.means(lambda sums: sums)
        assert means == pytest.approx({"soft_loss": (1 + 3) / 2, "hard_loss": (2 + 1) / 2, "agreement": (0.5 + 1) / 2})
        assert meter.means(lambda sums: sums) == {}

    def test_means_are_over_all_processes(self):
        meter = TrainingMeter()
        meter.begin_step()
        meter.add(parts(1.0, None), TASK.agreement(one_hot([0, 1]), one_hot([0, 2])), torch.tensor([True, True]), 4)
        means = meter.means(lambda sums: 2 * sums)
        assert means == pytest.approx({"soft_loss": 2.0, "hard_loss": 0.0, "agreement": 0.5})

    @pytest.mark.parametrize(
        "targets",
        [
            SparseTargets(torch.tensor([[3, 1], [2, 0]]), torch.tensor([[0.1, 0.8], [0.7, 0.2]]).log()),
            SparseTargets(torch.tensor([[1, 3, 1], [2, 2, 0]]), None, counts=torch.ones(2, 3, dtype=torch.long)),
        ],
        ids=["top k", "draws"],
    )
    def test_agreement_with_sparse_targets(self, targets):
        for student, agreement in (([1, 2], 1.0), ([3, 2], 0.5), ([3, 0], 0.0)):
            meter = TrainingMeter()
            meter.begin_step()
            meter.add(parts(0.0, 0.0), TASK.agreement(one_hot(student), targets), torch.tensor([True, True]), None)
            assert meter.means(lambda sums: sums)["agreement"] == agreement

    def test_the_ratio_of_gradients_against_closed_forms(self):
        """The two terms are sum(3 z) and sum(z²) / 2, whose gradients are 3 and z."""
        logits = torch.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
        meter = TrainingMeter()
        meter.begin_step()
        meter.add(parts(0.0, 0.0), TASK.agreement(logits, logits), torch.tensor([True, True]), None)
        for _ in range(2):
            meter.add_gradients(lambda z: LossParts(z.sum(), 3 * z.sum(), z.square().sum() / 2), logits, 0.25)
        assert logits.grad is None
        expected = (0.25 * 3 * 2) / (0.75 * 5)
        assert meter.means(lambda sums: sums)["gradient_ratio"] == pytest.approx(expected)

    def test_with_one_term_there_is_no_ratio(self):
        logits = torch.ones(2, 2)
        meter = TrainingMeter()
        meter.begin_step()
        meter.add(parts(1.0, None), TASK.agreement(logits, logits), torch.tensor([True, True]), None)
        meter.add_gradients(lambda z: LossParts(z.sum(), z.sum(), None), logits, 0.5)
        meter.add_gradients(lambda z: LossParts(z.sum(), z.sum(), z.sum()), logits, 1.0)
        assert "gradient_ratio" not in meter.means(lambda sums: sums)


class TestEvaluationMeter:
    def test_means_over_batches_are_those_of_scikit_learn(self):
        torch.manual_seed(0)
        logits, labels = torch.randn(50, 4), torch.randint(0, 4, (50,))
        labels[::7] = -100
        meter = EvaluationMeter()
        for rows in torch.arange(50).split([20, 20, 10]):
            meter.add(meter.sums_per_example(TASK, logits[rows], labels[rows]))
        known = labels >= 0
        truth, probabilities = labels[known].numpy(), logits[known].double().softmax(-1).numpy()
        assert meter.means() == pytest.approx(
            {
                "loss": log_loss(truth, probabilities, labels=range(4)),
                "accuracy": accuracy_score(truth, probabilities.argmax(-1)),
            },
            rel=1e-6,
        )

    def test_tokens_are_summed_for_each_example(self):
        logits = torch.zeros(2, 3, 4)
        logits[..., 1] = 30.0
        labels = torch.tensor([[1, 1, -100], [0, -100, -100]])
        sums = EvaluationMeter().sums_per_example(TASK, logits, labels)
        torch.testing.assert_close(sums, torch.tensor([[2.0, 0.0, 2.0], [1.0, 30.0, 0.0]]))

    def test_without_labels_there_are_no_means_and_reset_removes_them(self):
        meter = EvaluationMeter()
        assert meter.means() == {}
        meter.add(torch.tensor([[0.0, 0.0, 0.0]]))
        assert meter.means() == {}
        meter.add(meter.sums_per_example(TASK, torch.zeros(2, 4), torch.tensor([0, 1])))
        assert meter.means() == pytest.approx({"loss": math.log(4), "accuracy": 0.5})
        meter.reset()
        assert meter.means() == {}


@pytest.mark.parametrize(
    "settings",
    [
        dict(logging_strategy="steps", logging_steps=3),
        dict(logging_strategy="steps", logging_steps=4, logging_first_step=True),
        dict(logging_strategy="epoch"),
        dict(logging_strategy="no"),
    ],
)
def test_the_meter_knows_which_steps_the_trainer_logs(settings, tmp_path):
    """Compare 3 epochs of 5 steps with the callback by which Transformers decides."""
    args = DistillationArguments(str(tmp_path), num_train_epochs=3, use_cpu=True, **settings)
    state = TrainerState(max_steps=15, num_train_epochs=3, logging_steps=settings.get("logging_steps", 500))
    flow, expected, got = DefaultFlowCallback(), [], []
    for step in range(15):
        state.global_step = step
        got.append(logs_after_step(args, state))
        state.global_step, control = step + 1, TrainerControl()
        flow.on_step_end(args, state, control)
        if (step + 1) % 5 == 0:
            flow.on_epoch_end(args, state, control)
        expected.append(control.should_log)
    assert got == expected
