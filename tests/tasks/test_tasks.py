"""Tasks: which positions count, and which logits belong to which labels."""

import pytest
import torch
from torch import nn

from limbeck.losses import FAMILIES
from limbeck.tasks import TASKS, CausalLM, Classification, Targets, Task, resolve_task
from support.workbench import Net, bert, llama

IDS = torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]])
ATTENDED = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
LABELS = torch.tensor([[5, 6, -100, 8], [9, 4, -100, -100]])


class TestClassification:
    def test_every_example_counts_with_or_without_a_label(self):
        labels = torch.tensor([2, -100, 0])
        targets = Classification().targets({"x": torch.zeros(3, 6), "labels": labels})
        assert targets.labels is labels
        assert targets.mask.tolist() == [True, True, True]
        assert Classification().targets({"x": torch.zeros(3, 6)}).mask.tolist() == [True, True, True]
        assert Classification().targets({"x": torch.zeros(3, 6)}).labels is None

    def test_only_tokens_with_a_label_count(self):
        targets = Classification().targets({"input_ids": IDS, "labels": LABELS})
        assert targets.mask.tolist() == [[True, True, False, True], [True, True, False, False]]

    def test_a_mask_in_the_batch_decides(self):
        mask = torch.tensor([True, False, False])
        assert Classification().targets({"labels": torch.tensor([-100, 1, 2]), "mask": mask}).mask is mask


class TestCausalLM:
    def test_the_logits_at_a_token_meet_the_next_token(self):
        """Logits that put all weight on the next token have no cross-entropy."""
        task = CausalLM()
        following = torch.roll(IDS, -1, dims=1)
        logits = task.align(100.0 * nn.functional.one_hot(following, 10))
        targets = task.targets({"input_ids": IDS, "labels": IDS})
        assert nn.functional.cross_entropy(logits.flatten(0, 1), targets.labels.flatten()).item() == 0
        assert targets.mask.all()

    @pytest.mark.parametrize(
        ("batch", "mask"),
        [
            (dict(labels=LABELS, attention_mask=ATTENDED), [[True, False, True], [True, False, False]]),
            (dict(attention_mask=ATTENDED), [[True, True, True], [True, False, False]]),
            (dict(), [[True, True, True], [True, True, True]]),
            (dict(labels=LABELS, mask=LABELS == 8), [[False, False, True], [False, False, False]]),
        ],
    )
    def test_which_positions_count(self, batch, mask):
        targets = CausalLM().targets({"input_ids": IDS, **batch})
        assert targets.mask.tolist() == mask
        assert (targets.labels is None) == ("labels" not in batch)


def test_a_name_becomes_a_task():
    assert isinstance(resolve_task("causal_lm", Net()), CausalLM)
    assert isinstance(resolve_task("auto", llama()), CausalLM)
    for student in (bert(), Net()):
        assert isinstance(resolve_task("auto", student), Classification)
    task = CausalLM()
    assert resolve_task(task, Net()) is task
    with pytest.raises(ValueError, match=r"task: expected 'auto', 'classification', .*or a Task, got 'seq'"):
        resolve_task("seq", Net())


LOGITS = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(0))
ROWS = LOGITS.flatten(0, 1)
SOME_UNKNOWN = (ROWS + ROWS.roll(1, 0)).index_fill(0, torch.tensor([2]), torch.nan)
CASES = {
    "classification": (LOGITS[:, 0], dict(x=IDS, labels=torch.tensor([3, -100]))),
    "multi_label": (LOGITS[:, 0], dict(x=IDS, labels=torch.tensor([[1.0, 0.0] * 5, [-100.0] * 10]))),
    "regression": (ROWS, dict(x=ROWS, labels=SOME_UNKNOWN)),
    "embeddings": (ROWS, dict(x=ROWS, labels=SOME_UNKNOWN)),
    "dense_prediction": (LOGITS.mT.reshape(2, 10, 2, 2), dict(pixel_values=IDS, labels=LABELS.view(2, 2, 2))),
    "token_classification": (LOGITS, dict(input_ids=IDS, labels=LABELS)),
    "masked_lm": (LOGITS, dict(input_ids=IDS + 1, labels=LABELS)),
    "causal_lm": (LOGITS, dict(input_ids=IDS, labels=LABELS)),
    "encoder_decoder": (LOGITS, dict(input_ids=IDS, decoder_input_ids=IDS, labels=LABELS)),
}
"""For each task, the logits of a model and their batch, in which some positions have no label. A new task has a row here."""


@pytest.mark.parametrize("name", TASKS)
def test_what_every_task_holds(name):
    """Its loss, its scores and its metrics tell the same, and what it decides agrees with itself."""
    logits, batch = CASES[name]
    task = TASKS[name]()
    assert task.name == name
    assert resolve_task(name, Net()).name == name
    logits, targets = task.align(logits), task.targets(batch)
    assert targets.mask.shape == logits.shape[:-1]
    labelled = task.labelled(targets.labels)
    assert labelled.any()
    assert not labelled.all()
    scores = task.scores(logits, targets.labels)
    assert all(values.shape == labelled.shape and not values[~labelled].any() for values in scores.values())
    if task.has_labels:
        loss = FAMILIES[task.family](alpha=0.0)(logits, None, targets.labels, mask=labelled)
    else:
        loss = FAMILIES[task.family]()(logits, targets.labels, mask=labelled)
    assert scores["loss"].sum() / labelled.sum() == pytest.approx(loss.item())
    metrics = task.metrics(logits, targets.labels, logits)
    assert list(metrics) == list(task.columns)
    everywhere = pytest.approx(1.0)
    assert task.agreement(logits, logits).flatten().tolist() == [everywhere] * labelled.numel()
    if task.score in scores or task.unit == "example":
        values = task.values(logits, targets.labels)
        assert values.shape == labelled.shape
        assert not values[~labelled].any()
        assert metrics[task.score] == pytest.approx((values.sum() / labelled.sum()).item())
        own = task.values(logits, task.decide(logits))
        assert own.flatten().tolist() == [everywhere] * labelled.numel()
    if "accuracy" in scores:
        assert metrics["accuracy"] == pytest.approx((scores["accuracy"].sum() / labelled.sum()).item())
    summed = task.counts(logits, targets.labels).sum(0)
    for metric, value in task.metrics_of_counts(summed).items():
        assert value.item() == pytest.approx(metrics[metric], abs=1e-6)
    told, numbers = task.tell(logits.flatten(0, -2)[0], list("abcdefghij"))
    assert isinstance(told, str)
    assert len(numbers) == 10


class SecondHalf:
    """A task as people wrote it before there was a base class."""

    def align(self, logits):
        return logits[:, 2:]

    def targets(self, batch):
        return Targets(batch["labels"][:, 2:], batch["labels"][:, 2:] != -100)


def test_an_object_with_two_methods_is_a_task():
    task = resolve_task(SecondHalf(), Net())
    assert isinstance(task, Task)
    assert task.targets({"labels": LABELS}).mask.tolist() == [[False, True], [False, False]]
    scores = task.scores(task.align(nn.functional.one_hot(IDS, 10).float()), LABELS[:, 2:])
    assert scores["accuracy"].tolist() == [[0, 1], [0, 0]]
    with pytest.raises(TypeError, match=r"task: expected a name or a limbeck.tasks.Task, got int"):
        resolve_task(3, Net())


def test_what_one_row_of_logits_is_told_as():
    label, probabilities = Classification().tell(torch.tensor([0.0, 3.0]).log_softmax(-1), ["cat", "dog"])
    assert label == "dog"
    assert probabilities["dog"] == pytest.approx(1 / (1 + torch.tensor(-3.0).exp().item()))
