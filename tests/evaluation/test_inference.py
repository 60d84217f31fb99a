"""Running a model over examples changes neither their order nor the training of the next model."""

import time

import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from torch import nn

from limbeck.config import config_from
from limbeck.data import Examples, load_splits
from limbeck.data.examples import TensorRows
from limbeck.evaluation import evaluate_models, inference, milliseconds_per_batch, predict_logits
from limbeck.evaluation.answers import Outputs
from limbeck.evaluation.inference import answers_of, rows_of
from limbeck.models import EstimatorModel, heads
from support.language import llama
from support.workbench import pad


def test_predict_logits_keeps_order_and_leaves_randomness_alone():
    examples = Examples(TensorRows("pixel_values", torch.arange(20.0).reshape(10, 2)), torch.zeros(10))
    before = torch.random.get_rng_state()
    logits = predict_logits(nn.Identity(), examples, batch_size=3)
    assert torch.equal(logits, torch.arange(20.0).reshape(10, 2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_model_is_left_in_eval_mode_without_gradients():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    examples = Examples(TensorRows("pixel_values", torch.randn(10, 2)), torch.zeros(10))
    logits = predict_logits(model, examples)
    assert not model.training
    assert not logits.requires_grad
    torch.testing.assert_close(logits, model[0](examples.load(list(range(10)))["pixel_values"]).detach())
    assert predict_logits(model, examples.subset(torch.arange(0))).shape == (0, 0)


def test_the_time_of_a_batch_is_in_milliseconds():
    class Slow(nn.Module):
        def forward(self, pixel_values):
            time.sleep(0.01)
            return pixel_values

    examples = Examples(TensorRows("pixel_values", torch.zeros(3, 2)), torch.zeros(3))
    assert 10 <= milliseconds_per_batch(Slow(), examples, seconds=0.0) < 1000


def test_a_teacher_agrees_with_itself():
    values = {"data": {"name": "digits"}, "teacher": {"model": "mlp"}, "student": {"model": "mlp"}}
    splits = load_splits(config_from(values).data, seed=0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    results = evaluate_models({"teacher": teacher, "student": teacher, "other": other}, splits)
    assert "agreement" not in results["teacher"]
    assert results["student"]["agreement"] == 1
    assert results["other"]["agreement"] < 1
    assert results["other"]["parameters"] == 650
    unknown = evaluate_models(
        {"student": EstimatorModel(GaussianNB().fit(torch.rand(20, 64), [*range(10)] * 2))}, splits
    )
    assert "parameters" not in unknown["student"]
    labels, logits = splits.test.labels, predict_logits(other, splits.test)
    assert results["other"]["accuracy"] == pytest.approx((logits.argmax(-1) == labels).double().mean().item())


def test_a_language_model_is_measured_without_whole_logits_to_the_same_numbers(monkeypatch):
    student, teacher = llama(8, seed=1), llama(12, vocabulary=32, seed=2)
    rows = [
        torch.randint(1, 29, (length,), generator=torch.Generator().manual_seed(length)).tolist()
        for length in (9, 4, 12)
    ]
    batch = pad([{"input_ids": row, "labels": row} for row in rows])
    batch["mask"] = batch["labels"] != -100
    examples = Examples(
        lambda ids: {name: values[ids] for name, values in batch.items()}, batch["labels"], task="causal_lm"
    )
    monkeypatch.setattr(heads, "rows_in_chunk", lambda *_: 6)
    widest = []
    monkeypatch.setattr(
        Outputs, "at", lambda self, places, at=Outputs.at: widest.append(at(self, places)) or widest[-1]
    )
    ours, rows_ours = answers_of(student, examples, teacher=teacher), rows_of(teacher, examples)
    assert max(logits.shape[:-1].numel() for logits in widest[:-1]) == 6
    monkeypatch.setattr(inference, "head_of", lambda *_: None)
    whole, rows_whole = answers_of(student, examples, teacher=teacher), rows_of(teacher, examples)
    assert ours.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert {"perplexity", "teacher_kl", "top5_overlap", "calibration_error"} <= ours.metrics.keys()
    assert torch.equal(ours.decisions, whole.decisions)
    torch.testing.assert_close(rows_ours, rows_whole)
