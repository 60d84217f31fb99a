"""Dense prediction: metrics against scikit-learn, and a training of two resolutions against the same loop by hand."""

import copy
import warnings
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score, log_loss
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, kl_div

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.models import LogProbabilities, SelectedColumns
from limbeck.tasks import DensePrediction, recognise, resolve_task
from limbeck.teachers import Ensemble
from support.workbench import Net

CLASSES, SIDE = 3, 16
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 3, SIDE, SIDE, generator=GENERATOR)
LABELS = torch.randint(0, CLASSES, (8, SIDE, SIDE), generator=GENERATOR).masked_fill(IMAGES[:, 0] > 1, 255)


class Out(nn.Module):
    """A stand-in for the models of torchvision, whose output is a dictionary with "out"."""

    def __init__(self, stride=1):
        super().__init__()
        self.body = nn.Conv2d(3, CLASSES, 3, padding=1, stride=stride)

    def forward(self, pixel_values):
        return {"out": self.body(pixel_values)}


def segformer():
    """A SegFormer, whose logits have a quarter of the height and width."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    settings: dict[str, Any] = dict(
        num_encoder_blocks=1, depths=[1], sr_ratios=[1], hidden_sizes=[8], patch_sizes=[3], strides=[4], decoder_hidden_size=8,
        num_attention_heads=[1], mlp_ratios=[1], num_labels=CLASSES, drop_path_rate=0.0, classifier_dropout_prob=0.0,
    )  # fmt: skip
    return SegformerForSemanticSegmentation(SegformerConfig(**settings))


def trainer_of(student, teacher, folder, **settings):
    data = [{"pixel_values": x, "labels": y} for x, y in zip(IMAGES, LABELS, strict=True)]
    args = DistillationArguments(
        str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no", temperature=2.0, alpha=0.7,
        max_steps=2, per_device_train_batch_size=8, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant",
        max_grad_norm=0.0, ignore_index=255, **settings,
    )  # fmt: skip
    return DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data)


def at_the_labels(model):
    output: Any = model(IMAGES.to(next(model.parameters()).dtype))
    logits = output["out"] if isinstance(output, dict) and "out" in output else output.logits
    logits = interpolate(logits, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return logits.permute(0, 2, 3, 1)[LABELS != 255]


@pytest.mark.parametrize(("student", "name"), [(segformer, "auto"), (lambda: Out(1), "dense_prediction")])
def test_a_training_is_the_loop_by_hand(student, name, tmp_path):
    torch.manual_seed(1)
    student, teacher = student(), Out(2)
    theirs, labels = copy.deepcopy(student).train(), LABELS[LABELS != 255]
    trainer = trainer_of(student, teacher, tmp_path, task=name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.train()
    said = [str(warning.message) for warning in told if "interpolated" in str(warning.message)]
    sizes = {"student": "4 x 4"} if name == "auto" else {}
    assert sorted(said) == [
        f"The {who}'s logits of {size} are interpolated to the 16 x 16 of the labels."
        for who, size in {**sizes, "teacher": "8 x 8"}.items()
    ]

    with torch.no_grad():
        soft_targets = (at_the_labels(teacher).double() / 2).softmax(-1)
    for _ in range(2):
        theirs.zero_grad()
        logits = at_the_labels(theirs).double()
        soft = kl_div((logits / 2).log_softmax(-1), soft_targets, reduction="batchmean") * 4
        (0.7 * soft + 0.3 * cross_entropy(logits, labels)).backward()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
    for ours, expected in zip(student.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)

    with torch.no_grad():
        logits = at_the_labels(student.eval()).double()
    evaluation = trainer.evaluate()
    assert evaluation["eval_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    assert evaluation["eval_accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(-1)))
    assert evaluation["eval_mean_iou"] == pytest.approx(jaccard_score(labels, logits.argmax(-1), average="macro"))


def test_metrics_against_scikit_learn():
    """A class that is neither there nor decided is left out of the mean."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 5, 6, 7, generator=generator)
    logits[:, 4] = -100.0
    labels = torch.randint(-1, 4, (4, 6, 7), generator=generator)
    labels[labels < 0] = -100
    task, known = DensePrediction(), labels != -100
    aligned = task.align(logits)
    assert aligned.data_ptr() == logits.data_ptr()
    truth, decided = labels[known], aligned.argmax(-1)[known]
    assert task.metrics(aligned, labels, teacher_logits=-aligned) == pytest.approx(
        {
            "accuracy": accuracy_score(truth, decided),
            "mean_iou": jaccard_score(truth, decided, average="macro"),
            "nll": log_loss(truth, aligned[known].double().softmax(-1), labels=list(range(5))),
            "agreement": (decided == (-aligned).argmax(-1)[known]).double().mean().item(),
        }
    )
    with pytest.raises(ArgumentError, match=r"labels: expected some for logits of shape"):
        task.metrics(aligned, labels[:, 1:])


def test_without_labels_every_pixel_of_the_image_counts():
    task, batch = DensePrediction(), {"pixel_values": torch.zeros(2, 3, 4, 6)}
    assert task.targets(batch).mask.shape == (2, 4, 6)
    with pytest.warns(UserWarning, match="interpolated to the 4 x 6 of the images"):
        assert task.fit(torch.zeros(2, 5, 2, 3), batch, "student").shape == (2, 5, 4, 6)


def test_what_is_refused():
    task, batch = DensePrediction(), {"pixel_values": IMAGES, "labels": LABELS}
    with pytest.raises(
        ArgumentError, match=r"labels: torch.int64 of shape \(8,\): .*expects the number of a class for each"
    ):
        task.targets({"labels": torch.zeros(8, dtype=torch.long)})
    with pytest.raises(ArgumentError, match=r"teacher: the teacher returned logits of shape \(8, 3\)"):
        task.fit(torch.zeros(8, 3), batch, "teacher")
    with pytest.raises(ArgumentError, match="one output column"):
        task.check_logits(torch.zeros(8, 1, 4, 4))
    with pytest.raises(ArgumentError, match=r"task: .*task='dense_prediction' if its logits are"):
        resolve_task("auto", Net()).targets(batch)
    assert recognise(segformer()) == "dense_prediction"


class TestTeachersOfPixels:
    """What a teacher goes through before the task sees it has the classes in axis 1 as well."""

    logits = torch.randn(2, CLASSES, 4, 5, generator=GENERATOR)

    def test_columns_are_selected_among_the_classes(self):
        assert torch.equal(SelectedColumns(nn.Identity(), [2, 0])(self.logits), self.logits[:, [2, 0]])

    def test_probabilities(self):
        probabilities = self.logits.softmax(1)
        torch.testing.assert_close(LogProbabilities(nn.Identity())(probabilities), self.logits.log_softmax(1))

    def test_an_ensemble(self):
        teachers = [lambda batch: batch["x"], lambda batch: -batch["x"]]
        mean = Ensemble(teachers, temperature=2.0)({"x": self.logits}).logits
        assert mean is not None
        expected = ((self.logits / 2).softmax(1) + (-self.logits / 2).softmax(1)) / 2
        torch.testing.assert_close((mean / 2).softmax(1), expected)


@pytest.mark.parametrize(("size", "is_right"), [((8, 8), True), ((16, 8), False), ((12, 12), False), ((32, 32), False)])
def test_labels_that_do_not_lie_on_the_pixels_are_refused(size, is_right):
    batch = {"pixel_values": IMAGES, "labels": torch.zeros(8, *size, dtype=torch.long)}
    logits = torch.zeros(8, CLASSES, 8, 8)
    if is_right:
        assert DensePrediction().fit(logits, batch, "student") is logits
        return
    with pytest.raises(ArgumentError, match=rf"^labels: are {size[0]} x {size[1]}, and the images 16 x 16\. Expected"):
        DensePrediction().fit(logits, batch, "student")
