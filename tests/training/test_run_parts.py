"""What is changed on a trainer or on its arguments after construction works, or is refused."""

import copy
import math

import pytest
import torch
from torch import nn
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher, TrainerCallback, TrainingArguments

from limbeck import DistillationArguments, DistillationTrainer, distillation_loss
from limbeck.errors import ArgumentError
from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher
from limbeck.training import CausalLM
from support.workbench import CLASSES, Net, vectors

DATA = vectors(16)
X, LABELS = torch.stack([row["x"] for row in DATA]), torch.stack([row["labels"] for row in DATA])


def make(folder, teacher=None, student=None, **settings):
    quiet = dict(use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=1, per_device_train_batch_size=16)
    args = DistillationArguments(str(folder), **(quiet | settings))
    torch.manual_seed(0)
    teacher = Net(24) if teacher is None else teacher
    return DistillationTrainer(Net() if student is None else student, teacher, args, train_dataset=DATA)


def first_loss(trainer):
    """The logged loss of the first step, and what the function gives for its settings."""
    with torch.no_grad():
        student, teacher = trainer.student(X), trainer.teacher({"x": X}).logits
    trainer.args.logging_steps, trainer.args.learning_rate = 1, 0.0
    trainer.state.logging_steps = 1
    trainer.train()
    return next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry), student, teacher


@pytest.mark.parametrize(
    "changed",
    [dict(alpha=0.5), dict(temperature=1.5), dict(divergence="jsd", beta=0.2), dict(compensate=False), dict(alpha=0.0)],
)
def test_a_changed_setting_is_the_setting(changed, tmp_path):
    trainer = make(tmp_path, logging_steps=1)
    for name, value in changed.items():
        setattr(trainer.args, name, value)
    logged, student, teacher = first_loss(trainer)
    settings = dict(temperature=4.0, alpha=0.9) | changed
    mask = torch.ones(16, dtype=torch.bool) if settings["alpha"] else LABELS != -100
    expected = distillation_loss(student, teacher, LABELS, mask=mask, **settings).item()
    assert logged == pytest.approx(expected, rel=1e-5)


def test_a_callback_can_change_the_loss_in_the_middle(tmp_path):
    class Anneal(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            args.alpha = 0.25

    trainer = make(tmp_path, alpha=0.5, max_steps=3, logging_steps=1)
    trainer.add_callback(Anneal())
    trainer.train()
    shares = [
        (entry["loss"] - entry["hard_loss"]) / (entry["soft_loss"] - entry["hard_loss"])
        for entry in trainer.state.log_history
        if "soft_loss" in entry
    ]
    assert shares == pytest.approx([0.5, 0.25, 0.25], rel=1e-4)


def test_changes_that_cannot_be_followed_are_refused(tmp_path):
    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            args.temperature = {"policy": "linear"}

    trainer = make(tmp_path, max_steps=3)
    trainer.add_callback(Break())
    with pytest.raises(ArgumentError, match="temperature: a policy cannot be changed while training"):
        trainer.train()
    trainer = make(tmp_path)
    trainer.args.alpha = 2.0
    with pytest.raises(ValueError, match="alpha"):
        trainer.train()
    trainer = make(tmp_path)
    trainer.teacher = None
    with pytest.raises(ArgumentError, match="teacher: needed for the soft term"):
        trainer.train()
    trainer = make(tmp_path, InMemoryTeacher(torch.zeros(16, CLASSES)))
    with pytest.raises(ArgumentError, match="augment: this teacher was asked before"):
        trainer.augment = dict
    with pytest.raises(ArgumentError, match="shares parameters"):
        trainer.teacher = trainer.student


def test_a_policy_set_before_training_is_used(tmp_path):
    trainer = make(tmp_path)
    trainer.args.temperature = {"policy": "learned", "start": 3.0}
    trainer.train()
    assert [group["params"] for group in trainer.optimizer.param_groups][-1] == list(trainer.policy.parameters())


def test_a_teacher_a_task_and_arguments_of_another_type(tmp_path):
    trainer = make(tmp_path)
    trainer.teacher, trainer.task = Net(5), "causal_lm"
    assert isinstance(trainer.teacher, LiveTeacher)
    assert isinstance(trainer.task, CausalLM)
    with pytest.raises(TypeError, match="args: expected DistillationArguments, got TrainingArguments"):
        DistillationTrainer(Net(), Net(), TrainingArguments(str(tmp_path), use_cpu=True))


class TestModelInit:
    def make(self, folder, teacher, model_init, **settings):
        args = DistillationArguments(
            str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=2, **settings
        )
        return DistillationTrainer(None, teacher, args, train_dataset=DATA, model_init=model_init)

    def test_each_training_begins_anew(self, tmp_path):
        def new_student():
            return Net()

        trainer = self.make(tmp_path, Net(24), new_student, temperature={"policy": "learned"}, learning_rate=0.1)
        students, policies = [], []
        for _ in range(2):
            trainer.train()
            students.append({name: value.clone() for name, value in trainer.student.state_dict().items()})
            policies.append(trainer.policy.raw.item())
        assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())
        assert (
            policies[0]
            == policies[1]
            != DistillationArguments(str(tmp_path), temperature={"policy": "learned"}).policy().raw.item()
        )

    def test_a_student_that_is_the_teacher_is_refused(self, tmp_path):
        teacher = Net()
        with pytest.raises(ArgumentError, match="shares parameters"):
            self.make(tmp_path, teacher, lambda: teacher)


class TestEnsembles:
    def test_probabilities_are_averaged_at_the_temperature_of_the_loss(self, tmp_path):
        members = [Net(24), Net(12)]
        trainer = make(tmp_path, Ensemble(members), temperature=3.0)
        got = (trainer.teacher({"x": X}).logits / 3).softmax(-1)
        torch.testing.assert_close(got, sum((member(X) / 3).softmax(-1) for member in members) / 2)
        trainer.args.temperature = 2.0
        trainer.train()
        got = (trainer.teacher({"x": X}).logits / 2).softmax(-1)
        torch.testing.assert_close(got, sum((member(X) / 2).softmax(-1) for member in members) / 2)

    def test_the_teachers_temperature_counts(self, tmp_path):
        make(tmp_path, Ensemble([Net(24)], temperature=5.0), temperature=2.0, teacher_temperature=5.0).train()

    @pytest.mark.parametrize("nested", [False, True])
    def test_another_temperature_is_refused(self, nested, tmp_path):
        ensemble = Ensemble([Net(24), Net(12)], temperature=1.0)
        teacher = Ensemble([ensemble], average="logits") if nested else ensemble
        with pytest.raises(ArgumentError, match=r"teacher: .* at T = 1, .* by 3\. Leave out"):
            make(tmp_path, teacher, temperature=3.0)
        with pytest.raises(ArgumentError, match=r"a policy changes T\. Set average='logits'"):
            make(tmp_path, Ensemble([Net(24)]), temperature={"policy": "linear"})
        make(tmp_path, Ensemble([Net(24)], average="logits"), temperature={"policy": "linear"}).train()

    def test_a_member_that_is_the_student_is_refused(self, tmp_path):
        student = Net()
        with pytest.raises(ArgumentError, match="shares parameters"):
            make(tmp_path, Ensemble([Net(24), student]), student)


def test_the_gap_policy_moves_once_in_a_step(tmp_path):
    """Whatever is measured, and into however many micro-batches the step is split."""
    settings = dict(temperature={"policy": "gap", "start": 8.0, "momentum": 0.9}, max_steps=4, learning_rate=0.0)
    expected = 8.0
    for step in range(4):
        expected = 0.9 * expected + 0.1 * max(1.0, 8 * (1 + math.cos(math.pi * step / 4)) / 2)
    for more in (
        dict(logging_strategy="no"),
        dict(logging_steps=1),
        dict(logging_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=4),
    ):
        trainer = make(tmp_path, nn.Linear(6, CLASSES).requires_grad_(False), **(settings | more))
        trainer.train()
        assert trainer.policy.running.item() == pytest.approx(expected, rel=0.02)


def test_a_step_in_which_nothing_counts_is_said_once(tmp_path, recwarn):
    """A batch that counts is between two that do not. Without a soft term, a batch without labels is none to tell of."""
    counted = [False] * 4 + [True] * 4 + [False] * 4
    data = [{"x": torch.randn(6), "labels": torch.tensor(0), "mask": torch.tensor(value)} for value in counted]
    args = DistillationArguments(
        str(tmp_path), alpha=0.5, num_train_epochs=1, per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True,
        save_strategy="no", logging_strategy="no", train_sampling_strategy="sequential",
    )  # fmt: skip
    DistillationTrainer(Net(), Net(), args, train_dataset=data).train()
    args.alpha = 0.0
    unlabelled = [{"x": torch.randn(6), "labels": torch.tensor(-100)} for _ in range(4)]
    DistillationTrainer(Net(), None, args, train_dataset=unlabelled).train()
    said = [str(w.message) for w in recwarn if "counts in the loss" in str(w.message)]
    assert len(said) == 1
    assert "step 1 counts" in said[0]


def test_the_student_is_what_is_trained_now(tmp_path):
    """The wrappers are looked through once for each model."""
    trainer = make(tmp_path)
    assert trainer.student is trainer.model
    trainer.model = nn.parallel.DataParallel(Net())
    assert trainer.student is trainer.model.module


class TwoHeads(nn.Module):
    """A student with a head for labels and one for the teacher, called as people call them."""

    def __init__(self, first: str = "logits") -> None:
        super().__init__()
        self.body, self.heads, self.first = (
            nn.Linear(6, 8),
            nn.ModuleList(nn.Linear(8, CLASSES) for _ in range(2)),
            first,
        )

    def forward(self, x):
        labels, teacher = (head(self.body(x).tanh()) for head in self.heads)
        return {self.first: labels, "distillation_logits": teacher}


def deit():
    config = DeiTConfig(
        image_size=4, patch_size=2, num_channels=1, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, id2label={i: f"LABEL_{i}" for i in range(CLASSES)}, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return DeiTForImageClassificationWithTeacher(config)


class TestTwoHeads:
    """The loop by hand of Touvron et al., "Training data-efficient image transformers", with a soft teacher, in float64."""

    def trained(self, student, folder, inputs, teacher, **settings):
        torch.manual_seed(0)
        data = [{inputs[0]: x, "labels": torch.tensor(i % CLASSES)} for i, x in enumerate(inputs[1])]
        args = DistillationArguments(
            str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", temperature=3.0, max_steps=1, optim="sgd",
            per_device_train_batch_size=len(data), learning_rate=0.1, max_grad_norm=0.0, logging_steps=1, **settings,
        )  # fmt: skip
        trainer = DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data)
        trainer.train()
        return trainer, torch.tensor([row["labels"] for row in data])

    @pytest.mark.parametrize("form", ["logits", "cls_logits", "deit"])
    def test_labels_teach_the_first_and_the_teacher_the_second(self, form, tmp_path):
        torch.manual_seed(0)
        student = (deit() if form == "deit" else TwoHeads(form)).double()
        inputs = ("pixel_values", torch.randn(8, 1, 4, 4)) if form == "deit" else ("x", torch.randn(8, 6))
        inputs = (inputs[0], inputs[1].double())
        given, theirs = torch.randn(8, CLASSES).double(), copy.deepcopy(student)
        order = {tuple(x.flatten().tolist()): z for x, z in zip(inputs[1], given, strict=True)}

        def teacher(batch):
            return torch.stack([order[tuple(x.flatten().tolist())] for x in batch[inputs[0]]])

        trainer, labels = self.trained(student, tmp_path, inputs, teacher, alpha=0.6)
        output = theirs(**{inputs[0]: inputs[1]})
        first = output.cls_logits if form == "deit" else output[form]
        second = output["distillation_logits"]
        target = (given / 3).softmax(-1)
        soft = nn.functional.kl_div((second / 3).log_softmax(-1), target, reduction="batchmean") * 9
        hard = nn.functional.cross_entropy(first, labels)
        (0.6 * soft + 0.4 * hard).backward()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
        for ours, expected in zip(student.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(ours, expected)
        log = trainer.state.log_history[0]
        assert log["soft_loss"] == pytest.approx(soft.item(), rel=1e-5)
        assert log["hard_loss"] == pytest.approx(hard.item(), rel=1e-5)

        with torch.no_grad():
            output = theirs.eval()(**{inputs[0]: inputs[1]})
        first = output.cls_logits if form == "deit" else output[form]
        mean = (first + output["distillation_logits"]) / 2
        assert trainer.evaluate()["eval_loss"] == pytest.approx(
            nn.functional.cross_entropy(mean, labels).item(), rel=1e-5
        )

    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_a_single_term_trains_the_mean(self, alpha, tmp_path):
        """With one term a head of its own would leave the other as it was drawn, and the mean would have it."""
        student = TwoHeads()
        before = copy.deepcopy(student)
        self.trained(student, tmp_path, ("x", torch.randn(8, 6)), Net(), alpha=alpha)
        for ours, drawn in zip(student.heads.parameters(), before.heads.parameters(), strict=True):
            assert not torch.equal(ours, drawn)
