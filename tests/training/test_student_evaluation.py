"""Evaluation by the trainer: the student alone, on every example once."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.tasks import TASKS, Targets, task_named
from support.language import llama
from support.workbench import CLASSES, Net, make_trainer, vectors


def test_compute_metrics_gets_the_logits(tmp_path):
    seen = {}

    def metrics(prediction):
        seen["shape"] = prediction.predictions.shape
        return {"mine": 1.0}

    data = vectors(13)
    args = DistillationArguments(str(tmp_path), per_device_eval_batch_size=5, use_cpu=True, disable_tqdm=True)
    trainer = DistillationTrainer(Net(), Net(24), args, eval_dataset=data, compute_metrics=metrics)
    evaluated = trainer.evaluate()
    assert seen["shape"] == (13, CLASSES)
    assert {"eval_mine", "eval_loss", "eval_accuracy"} <= evaluated.keys()
    assert trainer.predict(data).predictions.shape == (13, CLASSES)


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    trainer = make_trainer(
        "module", tmp_path, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, metric_for_best_model="eval_accuracy", greater_is_better=True,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_metric == trainer.evaluate()["eval_accuracy"]


@pytest.mark.parametrize("fused_loss", [True, False])
@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_count_as_in_training_on_either_side_of_the_padding(tmp_path, side, has_mask, fused_loss):
    """The mean is over the tokens of each text alone: those behind its first one, of the mask where there is one."""
    drawn = torch.Generator().manual_seed(0)
    texts = [torch.randint(1, 29, (length,), generator=drawn) for length in (9, 4, 6)]
    counted = [torch.rand(len(text), generator=drawn) < (0.6 if has_mask else 2) for text in texts]

    def collate(rows):
        def padded(values, filler):
            sequences = [values[row["row"]] for row in rows]
            return torch.nn.utils.rnn.pad_sequence(sequences, True, filler, padding_side=side)

        there = padded([torch.ones_like(text) for text in texts], 0)
        batch = {"input_ids": padded(texts, 0), "labels": padded(texts, -100), "attention_mask": there}
        batch["position_ids"] = (there.cumsum(-1) - 1).clamp(min=0)
        return batch | ({"mask": padded(counted, False)} if has_mask else {})

    args = DistillationArguments(
        str(tmp_path), alpha=0.0, max_steps=1, learning_rate=0.0, logging_steps=1, use_cpu=True, disable_tqdm=True,
        per_device_eval_batch_size=2, fused_loss=fused_loss, report_to="none", save_strategy="no",
        remove_unused_columns=False,
    )  # fmt: skip
    student, rows = llama(8, seed=1), [{"row": i} for i in range(3)]
    with torch.no_grad():
        nll = [cross_entropy(student.eval()(text[None]).logits[0, :-1], text[1:], reduction="none") for text in texts]
    expected = torch.cat([values[keep[1:]] for values, keep in zip(nll, counted, strict=True)]).mean().item()
    trainer = DistillationTrainer(student, None, args, collate, rows, rows)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_label_is_known_where_nothing_counts(name):
    task, mask = task_named(name), torch.tensor([True, False])
    labels = {
        "multi_label": torch.tensor([[1, 0], [1, 0]]),
        "regression": torch.tensor([[1.0], [2.0]]),
        "embeddings": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    }.get(name, torch.tensor([1, 2], dtype=torch.uint8))
    found = task.counted_labels(Targets(labels, mask))
    assert task.labelled(found).tolist() == [True, False]
    assert found[0].tolist() == labels[0].tolist()
