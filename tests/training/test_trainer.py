"""The trainer: a step by hand, the teacher's state, logs, data, checkpoints and errors."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from limbeck import DistillationArguments, DistillationLoss, DistillationTrainer, distillation_loss
from limbeck.errors import ArgumentError
from limbeck.models import save_model
from limbeck.teachers import LiveTeacher, TeacherOutput
from limbeck.training import last_complete_checkpoint
from support.workbench import CLASSES, Net, llama, make_trainer, vectors, weights


def arguments(folder, **settings):
    quiet = dict(use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no")
    return DistillationArguments(str(folder), **(quiet | settings))


@pytest.mark.parametrize("returns", ["tensor", "tuple", "dict"])
def test_a_step_follows_the_gradient_of_the_loss_by_hand(returns, tmp_path):
    torch.manual_seed(1)
    teacher, student, data = Net(24, returns=returns), Net(returns=returns), vectors(16)
    by_hand = copy.deepcopy(student)
    args = arguments(
        tmp_path, temperature=3.0, alpha=0.6, max_steps=1, per_device_train_batch_size=16, optim="sgd", learning_rate=0.1,
        lr_scheduler_type="constant", max_grad_norm=0.0, label_smoothing_factor=0.1,
    )  # fmt: skip
    DistillationTrainer(student, teacher, args, train_dataset=data).train()

    x, labels = torch.stack([d["x"] for d in data]), torch.stack([d["labels"] for d in data])
    with torch.no_grad():
        soft_targets = (teacher.body(x) / 3).softmax(-1)
    soft = nn.functional.kl_div((by_hand.body(x) / 3).log_softmax(-1), soft_targets, reduction="batchmean") * 9
    hard = nn.functional.cross_entropy(by_hand.body(x), labels, label_smoothing=0.1, reduction="sum") / 16
    (0.6 * soft + 0.4 * hard).backward()
    with torch.no_grad():
        for parameter in by_hand.parameters():
            parameter -= 0.1 * parameter.grad
    for ours, theirs in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_teacher_is_frozen_in_eval_mode_and_out_of_the_optimiser(tmp_path):
    teacher = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, CLASSES)).train()
    before = copy.deepcopy(teacher.state_dict())
    trainer = DistillationTrainer(Net(), teacher, arguments(tmp_path, max_steps=3), train_dataset=vectors())
    teacher.train()  # as a user's callback might do
    trainer.train()
    assert all(torch.equal(teacher.state_dict()[name], value) for name, value in before.items())
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in trainer.model.parameters()}


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_the_teacher_runs_in_its_own_dtype(name, tmp_path):
    dtype, args = getattr(torch, name), arguments(tmp_path, max_steps=1, teacher_dtype=name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer = DistillationTrainer(Net(), Net(24), args, train_dataset=vectors())
    slow = [str(warning.message) for warning in told if "hundred times" in str(warning.message)]
    assert len(slow) == (name == "float16")
    assert all("teacher_dtype='float32'" in message for message in slow)
    assert next(trainer.teacher.model.parameters()).dtype == dtype
    assert trainer.teacher({"x": torch.randn(2, 6)}).logits.dtype == dtype
    assert math.isfinite(trainer.train().training_loss)


def test_tokens_without_labels(tmp_path):
    data = [{"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]}] * 4
    with pytest.raises(
        ArgumentError, match=r"train_dataset: .*DataCollatorForLanguageModeling\(tokenizer, mlm=False\)"
    ):
        DistillationTrainer(llama(), llama(), arguments(tmp_path, max_steps=1), train_dataset=data).train()


def test_a_teacher_may_be_a_callable_or_a_folder(tmp_path):
    class Constant:
        def __call__(self, batch):
            return TeacherOutput(torch.arange(CLASSES).float().expand(len(batch["x"]), -1))

        def to(self, device):
            return self

    student = Net()
    args = arguments(tmp_path, alpha=1.0, temperature=1.0, max_steps=300, learning_rate=0.05)
    DistillationTrainer(student, Constant(), args, train_dataset=vectors()).train()
    probabilities = student(torch.randn(20, 6)).softmax(-1).mean(0)
    torch.testing.assert_close(probabilities, torch.arange(CLASSES).float().softmax(-1), rtol=0.2, atol=0.02)

    from limbeck.models import MLP, DataShape, ModelConfig

    save_model(MLP(6, CLASSES), tmp_path / "teacher", ModelConfig("mlp"), DataShape(CLASSES, (1, 2, 3)))
    trainer = DistillationTrainer(Net(), tmp_path / "teacher", arguments(tmp_path), train_dataset=vectors())
    assert isinstance(trainer.teacher, LiveTeacher)


def test_without_a_teacher_a_student_learns_from_labels(tmp_path):
    torch.manual_seed(1)
    student, data = Net(), vectors(16)
    alone = copy.deepcopy(student)
    settings = dict(
        alpha=0.0, max_steps=1, per_device_train_batch_size=16, optim="sgd", learning_rate=0.1, max_grad_norm=0.0
    )
    DistillationTrainer(student, None, arguments(tmp_path, **settings), train_dataset=data).train()
    x, labels = torch.stack([d["x"] for d in data]), torch.stack([d["labels"] for d in data])
    nn.functional.cross_entropy(alone(x), labels).backward()  # torch divides by the number of labelled examples
    for ours, theirs in zip(student.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)


def test_logged_numbers_equal_those_by_hand(tmp_path):
    trainer = make_trainer(
        "module", tmp_path, logging_strategy="steps", logging_steps=1, learning_rate=0.0, max_steps=4
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "soft_loss" in entry]
    assert len(logs) == 4
    for entry in logs:
        assert entry["loss"] == pytest.approx(0.7 * entry["soft_loss"] + 0.3 * entry["hard_loss"], rel=1e-5)
    data = trainer.train_dataset
    x, labels = torch.stack([d["x"] for d in data]), torch.stack([d["labels"] for d in data])
    logits, teacher_logits = trainer.student(x), trainer.teacher.model(x)
    mean = {name: sum(entry[name] for entry in logs) / 4 for name in ("soft_loss", "agreement")}
    soft = distillation_loss(logits, teacher_logits, alpha=1, temperature=2.0)
    # The four steps are one epoch in which no weight changes, so their mean is that of the whole data set.
    assert mean["soft_loss"] == pytest.approx(soft.item(), rel=1e-5)
    assert mean["agreement"] == pytest.approx((logits.argmax(-1) == teacher_logits.argmax(-1)).float().mean().item())

    # The closed forms of the gradients give the ratio of their norms for the first batch.
    order = next(iter(trainer.get_train_dataloader()))["x"]
    rows = [int((x == row).all(-1).nonzero()) for row in order]
    z, t, y = logits[rows].detach(), teacher_logits[rows], labels[rows]
    soft_gradient = 0.7 * 2.0 * ((z / 2).softmax(-1) - (t / 2).softmax(-1))
    hard_gradient = 0.3 * (z.softmax(-1) - nn.functional.one_hot(y.clamp(min=0), CLASSES)) * (y != -100).unsqueeze(-1)
    expected = (soft_gradient.norm() / hard_gradient.norm()).item()
    assert any(entry["gradient_ratio"] == pytest.approx(expected, rel=1e-4) for entry in logs)


def test_the_gradient_ratio_is_measured_at_logging_steps_only(tmp_path):
    class Recording(DistillationLoss):
        def parts(self, student_logits, *args, **kwargs):
            if student_logits.is_leaf:  # the copy on which gradients are measured, not a model's output
                steps.append(trainer.state.global_step)
            return super().parts(student_logits, *args, **kwargs)

    trainer = make_trainer("module", tmp_path, logging_strategy="steps", logging_steps=3, max_steps=6)
    trainer.objective, steps = Recording(temperature=2.0, alpha=0.7), []
    trainer.train()
    assert steps == [2, 5]


def test_mixup_has_a_hard_term_for_both_labels(tmp_path):
    class Mix:
        def __call__(self, batch):
            mixed = {"x": 0.25 * batch["x"] + 0.75 * batch["x"].flip(0)}
            return {**batch, **mixed, "mixup_weight": 0.25, "mixup_labels": batch["labels"].flip(0)}

    data = [{"x": d["x"], "labels": d["labels"].clamp(min=0)} for d in vectors(8)]
    trainer = DistillationTrainer(
        Net(), Net(24), arguments(tmp_path, alpha=0.4, temperature=2.0), train_dataset=data, augment=Mix()
    )
    x, labels = torch.stack([d["x"] for d in data]), torch.stack([d["labels"] for d in data])
    mixed = 0.25 * x + 0.75 * x.flip(0)
    logits, teacher_logits = trainer.model(mixed), trainer.teacher.model(mixed)
    two_hot = 0.25 * nn.functional.one_hot(labels, CLASSES) + 0.75 * nn.functional.one_hot(labels.flip(0), CLASSES)
    hard = nn.functional.cross_entropy(logits, two_hot)
    soft = distillation_loss(logits, teacher_logits, alpha=1, temperature=2.0)
    got = trainer.compute_loss(trainer.model, {"x": x, "labels": labels})
    torch.testing.assert_close(got, 0.4 * soft + 0.6 * hard)


@pytest.mark.parametrize("stream", [False, True])
def test_columns_that_neither_model_takes_are_dropped_wherever_data_come_in(stream, tmp_path):
    import datasets

    data = datasets.Dataset.from_dict({"x": [[0.0] * 6] * 4, "labels": [0, 1, 2, 3], "note": ["a", "b", "c", "d"]})
    data = data.to_iterable_dataset() if stream else data
    entries = []

    def collate(rows):
        entries.append({name for row in rows for name in row})
        return {name: torch.tensor([row[name] for row in rows]) for name in ("x", "labels")}

    args = arguments(tmp_path, max_steps=1)
    for _ in range(2):  # a second trainer with the same arguments
        trainer = DistillationTrainer(Net(), Net(24), args, collate, train_dataset=data, eval_dataset=data)
        trainer.train()
        trainer.evaluate()
        trainer.evaluate(data)
        trainer.predict(data)
    assert entries == [{"x", "labels"}] * len(entries)
    assert len(entries) >= 8
    assert args.remove_unused_columns
    assert args.label_names is None
    entries.clear()
    kept = arguments(tmp_path, remove_unused_columns=False, max_steps=1)
    DistillationTrainer(Net(), Net(24), kept, collate, train_dataset=data).train()
    assert entries[0] == {"x", "labels", "note"}


def test_the_callers_arguments_stay_as_they_are(tmp_path):
    args = arguments(tmp_path, max_steps=1, label_smoothing_factor=0.1, temperature={"policy": "linear", "start": 4})
    before = args.to_dict()
    trainer = DistillationTrainer(Net(), Net(24), args, train_dataset=vectors(), eval_dataset=vectors())
    trainer.train()
    trainer.evaluate()
    assert args.to_dict() == before


def test_the_student_is_not_given_what_only_the_teacher_reads(tmp_path):
    import datasets

    class Strict(Net):
        def forward(self, x, **others):
            assert not others
            return super().forward(x)

    seen = []

    def teacher(batch):
        seen.append(batch["hint"])
        return torch.zeros(len(batch["x"]), CLASSES)

    rows = {"x": [[0.0] * 6] * 4, "labels": [0, 1, 2, 3], "hint": [1, 2, 3, 4]}
    data = datasets.Dataset.from_dict(rows)
    trainer = DistillationTrainer(Strict(), teacher, arguments(tmp_path, max_steps=1), None, data, data)
    trainer.train()
    trainer.evaluate()
    assert sorted(seen[0].tolist()) == [1, 2, 3, 4]


def test_tied_weights_of_a_plain_module_are_saved_and_resumed(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.head = nn.Linear(6, CLASSES)

        def forward(self, x):
            return self.head(self.second(self.first(x)))

    def trainer(steps):
        torch.manual_seed(0)
        args = arguments(tmp_path, max_steps=steps, save_strategy="steps", save_steps=2, lr_scheduler_type="constant")
        return DistillationTrainer(Tied(), Net(24), args, train_dataset=vectors())

    trainer(2).train()
    resumed = trainer(4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.model.second.weight is resumed.model.first.weight


class TestErrors:
    def test_no_teacher(self, tmp_path):
        with pytest.raises(ValueError, match=r"teacher: needed .* alpha = 0\.9.*alpha=0"):
            DistillationTrainer(Net(), None, arguments(tmp_path))

    def test_not_a_teacher(self, tmp_path):
        with pytest.raises(TypeError, match=r"teacher: .*int"):
            DistillationTrainer(Net(), 3, arguments(tmp_path))

    def test_shared_parameters(self, tmp_path):
        model = Net()
        with pytest.raises(ValueError, match=r"shares parameters.*deepcopy"):
            DistillationTrainer(model, model, arguments(tmp_path))
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_wrong_settings_at_construction(self, tmp_path):
        with pytest.raises(ValueError, match="temperature"):
            arguments(tmp_path, temperature=-1.0)
        with pytest.raises(ValueError, match="divergence"):
            arguments(tmp_path, divergence="kl")
        with pytest.raises(ValueError, match="teacher_dtype"):
            DistillationTrainer(Net(), Net(24), arguments(tmp_path, teacher_dtype="int8"))
        with pytest.raises(ValueError, match="task"):
            DistillationTrainer(Net(), Net(24), arguments(tmp_path, task="translation"))

    def test_several_gpus_without_a_launcher(self, tmp_path):
        args = arguments(tmp_path)
        args._n_gpu = 2
        with pytest.raises(ValueError, match="accelerate launch --num_processes 2"):
            DistillationTrainer(Net(), Net(24), args)

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(ValueError, match="no complete checkpoint"):
            make_trainer("module", tmp_path).train(resume_from_checkpoint=True)


def test_a_damaged_checkpoint_is_skipped(tmp_path):
    trainer = make_trainer("module", tmp_path, save_strategy="steps", save_steps=2)
    trainer.train()
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-6"
    state = tmp_path / "checkpoint-6" / "trainer_state.json"
    state.write_text(state.read_text()[:40])
    (tmp_path / "checkpoint-8").mkdir()
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-4"
    through = weights(trainer)
    resumed = make_trainer("module", tmp_path)
    with pytest.warns(UserWarning, match="The run goes on from checkpoint-4, since newer ones are not whole"):
        resumed.train(resume_from_checkpoint=True)
    assert all(torch.equal(value, through[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize("kind", ["module", "bert"])
def test_saving_removes_nothing_that_it_did_not_write(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, save_strategy="steps", save_steps=3)
    trainer.train()
    for name in ("notes.txt", "README.md", "training_args.bin"):
        (tmp_path / name).write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    trainer.save_model()
    assert before <= {path.name for path in tmp_path.iterdir()}
    assert before >= {"checkpoint-3", "checkpoint-6"}
    for name in ("notes.txt", "README.md", "training_args.bin"):
        assert (tmp_path / name).read_text() == "mine"
    assert (tmp_path / "model.safetensors").is_file()


def test_half_precision_is_refused_on_a_cpu(tmp_path):
    teacher = nn.Linear(4, 3)
    for name, student, settings in (
        ("fp16", nn.Linear(4, 3), {"fp16": True}),
        ("fp16_full_eval", nn.Linear(4, 3), {"fp16_full_eval": True}),
        ("model", nn.Linear(4, 3).half(), {}),
    ):
        with pytest.raises(
            ArgumentError, match=rf"^{name}: (needs a GPU|the student's weights are float16.*float\(\))"
        ):
            DistillationTrainer(student, teacher, arguments(tmp_path, **settings))
