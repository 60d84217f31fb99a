"""The first batch of a training: every fault of what the models returned, and of the labels, at once."""

import pytest
import torch

from limbeck.errors import ArgumentError, ModelError, TrainingError
from limbeck.tasks import Targets
from limbeck.teachers import TeacherOutput
from limbeck.training.student_output import check_first_batch
from support.workbench import CLASSES, Net, vectors


def targets(*labels):
    return Targets(torch.tensor(labels), torch.ones(len(labels), dtype=torch.bool))


def test_nothing_is_wrong():
    logits = torch.randn(3, 4, requires_grad=True)
    check_first_batch(logits, logits, torch.randn(3, 4), targets(0, 3, -100), 4)
    check_first_batch(logits, logits, None, Targets(None, torch.ones(3, dtype=torch.bool)), 4)


def test_one_fault_names_the_argument():
    logits = torch.randn(2, 4)
    with pytest.raises(ArgumentError, match=r"^teacher: every row .*teacher_outputs='probabilities'"):
        check_first_batch(logits, logits, logits.softmax(-1), targets(0, 1), 4)
    with pytest.raises(ArgumentError, match=r"Where it returns TeacherOutput\(logits=.*TeacherOutput\(probabilities="):
        check_first_batch(logits, logits, logits.softmax(-1), targets(0, 1), 4)
    with pytest.raises(
        ArgumentError, match=r"^train_dataset: it has the label 7, and the student has 4 output columns"
    ):
        check_first_batch(logits, logits, logits, targets(0, 7), 4)


def test_a_teacher_that_knows_fewer_classes():
    logits = torch.randn(2, 4)
    with pytest.raises(
        ArgumentError, match=r"^teacher: it gives 3 classes, and the student has 4\..*estimator\.classes_"
    ):
        check_first_batch(logits, logits, torch.randn(2, 3), targets(0, 1), 4)


def test_several_faults_are_said_together():
    weight = torch.randn(2, 4, requires_grad=True)
    heads = (weight * 1, torch.randn(2, 4, requires_grad=True) * 2)
    with pytest.raises(ModelError) as caught:
        check_first_batch(heads, heads[0], torch.full((2, 4), 0.25), targets(0, 9), 4)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["model", "teacher", "train_dataset"]


def test_a_teachers_zero_and_a_divergence_that_it_makes_infinite(tmp_path):
    from limbeck import DistillationArguments, DistillationTrainer

    def teacher(batch):
        return TeacherOutput(probabilities=torch.tensor([0.5, 0.5, 0.0, 0.0]).expand(len(batch["x"]), CLASSES))

    args = DistillationArguments(
        str(tmp_path), divergence="reverse_kl", max_steps=1, use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    with pytest.raises(TrainingError, match=r"gives classes the probability 0.*Take forward_kl"):
        DistillationTrainer(Net(), teacher, args, train_dataset=vectors(8)).train()
