"""The fused loss of language models trains and evaluates as whole logits do, and says why where it cannot."""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.losses import SparseTargets
from limbeck.models import heads
from limbeck.models.heads import Head
from limbeck.teachers import Teacher, TeacherOutput
from limbeck.training import fused
from support import sharded
from support.language import llama
from support.workbench import pad

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
LENGTHS = (12, 5, 9, 2, 11, 7, 3, 12)


def rows(vocabulary=29):
    """Return sequences of unequal length, of which the first tokens do not count."""
    made = []
    for i, length in enumerate(LENGTHS):
        ids = torch.randint(1, vocabulary, (length,), generator=torch.Generator().manual_seed(i)).tolist()
        made.append({"input_ids": ids, "labels": [-100] * min(2, length - 1) + ids[min(2, length - 1) :]})
    return made


def trained(fused_loss, *, student=None, teacher=None, collate=pad, **settings):
    """Return a trainer after three steps."""
    defaults = dict(
        output_dir=tempfile.mkdtemp(), temperature=2.0, alpha=0.7, max_steps=3, per_device_train_batch_size=4,
        learning_rate=0.1, optim="sgd", max_grad_norm=0.0, save_strategy="no", logging_steps=1, disable_tqdm=True,
        report_to="none", use_cpu=True, fused_loss=fused_loss,
    )  # fmt: skip
    student = llama(8, seed=1) if student is None else student
    teacher = llama(12, seed=2) if teacher is None else teacher
    trainer = DistillationTrainer(
        student, teacher, DistillationArguments(**defaults | settings), collate, rows(), rows()[:5]
    )
    trainer.train()
    return trainer


def assert_same(make=lambda: {}, rtol=1e-4, atol=1e-6, **settings):
    """Check that three steps without whole logits are those with them: weights, logs and evaluation."""
    ours, dense = trained(True, **make(), **settings), trained(False, **make(), **settings)
    for (name, found), expected in zip(ours.student.named_parameters(), dense.student.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")
    timed = ("runtime", "per_second", "flos")
    for found, expected in zip(ours.state.log_history, dense.state.log_history, strict=True):
        told = {name: value for name, value in expected.items() if not any(part in name for part in timed)}
        assert {name: found[name] for name in told} == pytest.approx(told, rel=10 * rtol, abs=atol)
    assert len(ours.state.log_history) >= 3
    found, expected = ours.evaluate(), dense.evaluate()
    for name in ("eval_loss", "eval_perplexity", "eval_accuracy", "eval_calibration_error"):
        assert found[name] == pytest.approx(expected[name], rel=10 * rtol, abs=1e-6), name


def tied(model):
    model.config.tie_word_embeddings = True
    model.tie_weights()
    return model


def pair(change):
    return lambda: {"student": change(llama(8, seed=1)), "teacher": llama(12, seed=2)}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"divergence": "jsd", "beta": 0.3, "compensate": "curvature"},
        {"divergence": "tvd", "label_smoothing_factor": 0.1},
        {"divergence": "logit_mse", "class_weights": [1.0, 3.0] + [0.5] * 27},
        {"temperature": {"policy": "linear", "start": 4.0, "end": 1.0}},
        {"temperature": 1.0, "teacher_temperature": 2.0, "max_grad_norm": 1.0, "optim": "adamw_torch"},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    ],
    ids=str,
)
def test_three_steps_are_those_of_whole_logits(settings):
    assert_same(**settings)


def test_tied_embeddings():
    assert_same(pair(tied))


def test_half_precision():
    assert_same(bf16=True, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["v_proj"]], ids=str)
def test_adapters(targets):
    peft = pytest.importorskip("peft")

    def adapted(model):
        torch.manual_seed(3)
        return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False))

    assert_same(pair(adapted))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile reads it
def test_compiled():
    torch._dynamo.reset()
    assert_same(torch_compile=True, torch_compile_backend="eager")
    assert max(torch._dynamo.utils.counters["frames"].values()) < 30  # no new code for each step


def test_positions_that_do_not_count_are_not_projected(monkeypatch):
    seen = []
    row_meter = fused.RowMeter.watching

    def watching(self, kernel):
        watched = row_meter(self, kernel)
        return lambda student, *rest: (seen.append(len(student)), watched(student, *rest))[1]

    monkeypatch.setattr(fused.RowMeter, "watching", watching)
    trained(True, max_steps=1, per_device_train_batch_size=8)
    batch = pad(rows())
    assert sum(seen) == int((batch["labels"][:, 1:] != -100).sum())


def test_logits_are_never_whole(monkeypatch):
    """The last layer is asked for all positions of no batch, neither in training nor in evaluation."""
    shapes = []
    linear = nn.Linear.forward

    def recorded(self, hidden):
        shapes.append((self.out_features, hidden.shape[:-1].numel()))
        return linear(self, hidden)

    monkeypatch.setattr(nn.Linear, "forward", recorded)
    monkeypatch.setattr(heads, "rows_in_chunk", lambda *_: 8)
    trainer = trained(True, max_steps=2)
    trainer.evaluate()
    assert max(count for width, count in shapes if width == 29) == 8  # the tokens of the proof
    dense = trained(False, max_steps=2)
    assert max(count for width, count in shapes if width == 29) > 8
    assert dense.state.global_step == 2


class Stored(Teacher):
    """A teacher that is known by a few classes, as one of a store."""

    def __init__(self, model, rows):
        self.model, self.rows, self.as_logits = model, rows, False

    def __call__(self, batch):
        with torch.no_grad():
            logits = self.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if self.as_logits:
            return TeacherOutput(logits)
        return TeacherOutput(targets=SparseTargets.top_k(logits, k=5, temperatures=[2.0]))


def test_sparse_targets():
    assert_same(lambda: {"teacher": Stored(llama(12, seed=2), rows())})


def test_a_padded_vocabulary_counts_no_padding(tmp_path):
    from support.language import tokenizer

    names = tmp_path / "words"
    tokenizer().save_pretrained(names)

    def make():
        student, teacher = llama(8, vocabulary=32, seed=1), llama(12, vocabulary=40, seed=2)
        student.config._name_or_path = teacher.config._name_or_path = str(names)
        student.name_or_path = teacher.name_or_path = str(names)
        return {"student": student, "teacher": teacher}

    assert_same(make)


class NeverCalled(nn.Module):
    """A language model that is no model of Transformers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(29, 8), nn.Linear(8, 29)

    def forward(self, input_ids):
        return self.head(self.embedding(input_ids))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"student": NeverCalled, "task": "causal_lm"}, "of the student, it is no language model"),
        ({"teacher": NeverCalled}, "of the teacher, it is no language model"),
        ({"temperature": {"policy": "sharpness"}}, "'sharpness' reads all logits"),
        ({"temperature": {"policy": "learned"}}, "'learned' reads all logits or is learned"),
    ],
    ids=str,
)
def test_where_it_cannot_the_reason_is_said_once(settings, reason, caplog):
    made = {name: value() if isinstance(value, type) else value for name, value in settings.items()}
    fused._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="limbeck"):
        trained("auto", max_steps=1, **made)
        trained("auto", max_steps=1, **made)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "limbeck"]
    assert said.startswith("The logits of this language model are computed whole: ")
    assert reason in said
    with pytest.raises(ArgumentError, match=r"^fused_loss: the loss cannot be fused: "):
        trained(True, **made)


def test_other_tasks_say_nothing(caplog):
    from support.workbench import make_trainer

    fused._warn_once.cache_clear()
    make_trainer("module", tempfile.mkdtemp(), max_steps=1).train()
    assert not [record for record in caplog.records if record.name == "limbeck"]
    with pytest.raises(ArgumentError, match="for causal language models"):
        make_trainer("module", tempfile.mkdtemp(), max_steps=1, fused_loss=True).train()


def test_the_setting_is_checked():
    with pytest.raises(ArgumentError, match=r"^fused_loss: expected 'auto', True or False, got 'always'"):
        DistillationArguments(tempfile.mkdtemp(), fused_loss="always")
    assert DistillationArguments(tempfile.mkdtemp(), fused_loss="false").fused_loss is False


def test_the_same_faults_are_found_in_the_first_batch():
    for fused_loss in (True, False):
        teacher = llama(12, vocabulary=40, seed=2)
        with pytest.raises(ArgumentError, match="output columns"):
            trained(fused_loss, teacher=teacher)


def test_a_head_is_restored_after_an_error():
    model = llama()
    head = Head(model.lm_head)
    with pytest.raises(ZeroDivisionError):
        head.run(lambda: model(torch.arange(4)[None]), lambda hidden: 1 / 0)
    assert "forward" not in vars(model.lm_head)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["tied", "alone"])
def test_weights_that_are_sharded_have_the_gradients_of_whole_ones(head, tmp_path):
    """FSDP2 on two processes, student and teacher sharded, the head in the group of the model or in one of its own."""
    script = Path(sharded.__file__)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(script.parents[1])]),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([sys.executable, str(script), str(tmp_path), head], check=True, env=environment, timeout=240)
    found = torch.load(tmp_path / "gradients.pt")
    student, teacher = sharded.models(head == "tied")
    ids, labels = sharded.IDS.flatten(0, 1), sharded.LABELS.flatten(0, 1)
    logits = (model(input_ids=ids).logits[:, :-1] for model in (student, teacher))
    sharded.objective()(*logits, labels[:, 1:]).backward()
    assert found.keys() == dict(student.named_parameters()).keys()
    for name, weight in student.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-6, msg=name)
