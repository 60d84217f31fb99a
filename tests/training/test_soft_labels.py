"""Labels that are probabilities, and mixed images, in the trainer: against loops written by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from limbeck import DistillationArguments, DistillationTrainer, distillation_loss
from limbeck.data.images import Augmentation
from limbeck.errors import ArgumentError, ArgumentTypeError
from support.workbench import CLASSES, bert

N = 12


class OfImages(nn.Module):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer = nn.Linear(2 * 4 * 5, CLASSES)

    def forward(self, pixel_values):
        return self.layer(pixel_values.flatten(1))


def images(labels):
    generator = torch.Generator().manual_seed(0)
    return [{"pixel_values": torch.randn(2, 4, 5, generator=generator), "labels": label} for label in labels]


def probabilities(count=N):
    return torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(-1)


ONE_HOT, SEVERAL = F.one_hot(torch.arange(N) % CLASSES, CLASSES).float(), torch.ones(N, CLASSES)


def make(folder, data, student=None, augment=None, **settings):
    given = dict(
        use_cpu=True, disable_tqdm=True, report_to=[], max_steps=3, per_device_train_batch_size=N, optim="sgd",
        learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=0.0, alpha=0.3, temperature=2.0, logging_strategy="no",
        save_strategy="no",
    )  # fmt: skip
    args = DistillationArguments(str(folder), **given | settings)
    return DistillationTrainer(student or OfImages(1), OfImages(2), args, train_dataset=data, augment=augment)


def by_hand(views, weights, steps=3):
    """Three steps of plain torch on the views that the trainer's models saw."""
    student, teacher = OfImages(1), OfImages(2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for (x, labels), weight in zip(views, weights, strict=True):
        logits, t = student(x), 2.0
        soft = t**2 * F.kl_div(
            (logits / t).log_softmax(-1), (teacher(x).detach() / t).softmax(-1), reduction="batchmean"
        )
        hard = sum(share * F.cross_entropy(logits, y) for share, y in zip(weight, labels, strict=True))
        optimizer.zero_grad()
        (0.3 * soft + 0.7 * hard).backward()
        optimizer.step()
    return student.state_dict()


@pytest.mark.parametrize(
    "settings", [dict(mixup=1.0), dict(cutmix=1.0), dict(mixup=1.0, cutmix=1.0, flip=True)], ids=str
)
def test_mixed_images_are_trained_as_by_hand_with_one_soft_term(settings, tmp_path):
    seen, calls = [], []

    class Recorded(Augmentation):
        def __call__(self, batch):
            seen.append(super().__call__(batch))
            return seen[-1]

    trainer = make(tmp_path, images(torch.arange(N) % CLASSES), augment=Recorded(**settings))
    parts, objective = trainer.objective.parts, trainer.objective
    objective.parts = lambda *args, **options: calls.append(1) or parts(*args, **options)
    trainer.train()
    assert len(calls) == len(seen) == 3
    views = [(batch["pixel_values"], (batch["labels"], batch["mixup_labels"])) for batch in seen]
    weights = [(batch["mixup_weight"], 1 - batch["mixup_weight"]) for batch in seen]
    assert any(0 < weight < 1 for weight, _ in weights)
    for name, value in by_hand(views, weights).items():
        torch.testing.assert_close(trainer.student.state_dict()[name], value)


def test_labels_that_are_probabilities_are_trained_as_by_hand(tmp_path):
    labels = probabilities()
    trainer = make(tmp_path, images(labels), task="classification")
    trainer.train()
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == 1
    views = [
        (torch.stack([row["pixel_values"] for row in images(labels)]), (labels,))
    ] * 3  # their order does not count
    for name, value in by_hand(views, [(1.0,)] * 3).items():
        torch.testing.assert_close(trainer.student.state_dict()[name], value)
    metrics = trainer.evaluate(images(labels))
    logits = trainer.student(views[0][0]).detach()
    assert metrics["eval_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert metrics["eval_accuracy"] == pytest.approx((logits.argmax(-1) == labels.argmax(-1)).float().mean().item())


def test_some_of_them_without_a_label(tmp_path):
    labels = probabilities()
    labels[::3] = -100
    trainer = make(tmp_path, images(labels), task="classification", augment=Augmentation(mixup=1.0))
    batch = trainer.data_collator(images(labels))
    view = trainer.augment(batch)
    logits, teacher = trainer.student(view["pixel_values"]), trainer.teacher.model(view["pixel_values"])
    mixed = view["mixup_weight"] * batch["labels"] + (1 - view["mixup_weight"]) * view["mixup_labels"]
    known = torch.arange(N) % 3 > 0
    hard = F.cross_entropy(logits[known], mixed[known], reduction="sum") / N
    trainer.augment = lambda _: view
    soft = distillation_loss(logits, teacher, alpha=1.0, temperature=2.0)
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), 0.3 * soft + 0.7 * hard)
    measured = trainer.evaluate(images(labels))["eval_loss"]
    plain = trainer.student(batch["pixel_values"])[known]
    assert measured == pytest.approx(F.cross_entropy(plain, labels[known]).item(), rel=1e-5)


@pytest.mark.parametrize("policy", ["gap", "max_logit"])
def test_a_policy_sees_their_most_likely_class(policy, tmp_path):
    trained = []
    for labels in (ONE_HOT, torch.arange(N) % CLASSES):
        trainer = make(tmp_path, images(labels), task="classification", temperature={"policy": policy})
        trainer.train()
        trained.append(trainer.student.state_dict() | dict(trainer.policy.named_buffers()))
    for name, value in trained[0].items():
        torch.testing.assert_close(value, trained[1][name])


@pytest.mark.parametrize("labels", [ONE_HOT, SEVERAL], ids=["one", "several"])
def test_nothing_is_guessed_about_numbers_for_each_class(labels, tmp_path):
    both = r"^task: .*task='multi_label'|^task: .*task='classification'"
    with pytest.raises(ArgumentError, match=both):
        make(tmp_path, images(labels)).train()
    ids = torch.ones(N, 4, dtype=torch.long)
    texts = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    student, teacher = bert(), bert()
    args = DistillationArguments(
        str(tmp_path), use_cpu=True, disable_tqdm=True, max_steps=1, report_to=[], save_strategy="no"
    )
    with pytest.raises(ArgumentError, match=r"^task: the labels are numbers of shape \(8, 4\), and nothing says"):
        DistillationTrainer(student, teacher, args, train_dataset=texts).train()
    student.config.problem_type = "single_label_classification"
    trainer = DistillationTrainer(student, teacher, args, train_dataset=texts)
    if labels is SEVERAL:
        with pytest.raises(ArgumentError, match=r"labels: the row \(1, 1, 1, 1\) sums to 4\..*name task='multi_label'"):
            trainer.train()
    else:
        trainer.train()


def test_one_number_for_each_example_is_no_class(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"labels: expected integers .*got torch.float32 of shape \(12,\)"):
        make(tmp_path, images(torch.rand(N)), task="classification").train()


def test_several_labels_are_mixed_class_by_class(tmp_path):
    labels = SEVERAL.clone()
    labels[:, 0] = 0
    labels[2, 1] = -100
    batch = {name: torch.stack([row[name] for row in images(labels)]) for name in ("pixel_values", "labels")}
    view = {**batch, "mixup_labels": labels.flip(1), "mixup_weight": 0.25}
    trainer = make(tmp_path, images(labels), task="multi_label", augment=lambda _: view)
    mixed = 0.25 * labels + 0.75 * labels.flip(1)
    known = (labels >= 0) & (labels.flip(1) >= 0)
    logits = trainer.student(view["pixel_values"])
    entropies = F.binary_cross_entropy_with_logits(logits, mixed.clamp(0, 1), reduction="none") * known
    trainer.args.alpha = 0.0
    trainer._follow_arguments()
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), entropies.sum() / N)
