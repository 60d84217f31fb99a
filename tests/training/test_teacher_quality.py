"""A teacher that is no better than chance is told in the trainer, once, and no other one."""

import warnings

import pytest
import torch

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.teachers import TeacherOutput
from limbeck.training.teacher_quality import WeakTeacherWarning
from support.workbench import CLASSES, Net


def told(teacher, folder, **settings):
    """Return the warnings about the teacher in a training on 320 examples, of which 4 in 5 are labelled."""
    torch.manual_seed(0)
    data = [{"x": torch.randn(6), "labels": torch.tensor(i % CLASSES if i % 5 else -100)} for i in range(320)]
    for row in data:
        row["x"][0] = row["labels"]
    args = DistillationArguments(
        str(folder), max_steps=12, per_device_train_batch_size=32, use_cpu=True, disable_tqdm=True, save_strategy="no",
        logging_strategy="no", report_to=[], **settings,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        DistillationTrainer(Net(), teacher, args, train_dataset=data).train()
    return [str(warning.message) for warning in caught if warning.category is WeakTeacherWarning]


def right_on(share):
    """Return a teacher that knows the labels of a share of the examples."""

    def teacher(batch):
        labels = batch["x"][:, 0].long().clamp(min=0)
        known = torch.rand(len(labels)) < share
        hints = torch.nn.functional.one_hot(labels, CLASSES) * known[:, None]
        return TeacherOutput(3.0 * hints + torch.randn(len(labels), CLASSES))

    return teacher


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_it_is_told_of_a_teacher_that_knows_nothing(share, tmp_path):
    found = told(right_on(share), tmp_path)
    assert len(found) == (share == 0)
    assert all("it is no better than chance and has nothing to teach" in message for message in found)


def test_other_tasks_and_trainings_on_labels_alone_are_not_compared(tmp_path):
    assert told(None, tmp_path, alpha=0.0, task="classification") == []
