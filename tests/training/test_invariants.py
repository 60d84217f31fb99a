"""A run's result depends neither on how a batch is split, nor on the number of processes, nor on interruptions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limbeck.data import Augmentation
from support.workbench import KINDS, make_trainer, weights

WORKBENCH = Path(__file__).parents[1] / "support" / "workbench.py"
every_kind = pytest.mark.parametrize("kind", KINDS)


def assert_same(first, second, *, exactly=False):
    """Check that two students have the same weights, up to rounding or exactly."""
    assert first.keys() == second.keys()
    for name in first:
        if exactly:
            assert torch.equal(first[name], second[name]), name
        else:
            torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=2e-7, msg=name)


def moved(before, after):
    """Return the largest change of any weight."""
    return max((before[name] - after[name]).abs().max().item() for name in before)


@every_kind
def test_one_batch_of_16_equals_4_accumulated_batches_of_4(kind, tmp_path):
    whole = make_trainer(kind, tmp_path / "whole", per_device_train_batch_size=16)
    start = weights(whole)
    split = make_trainer(kind, tmp_path / "split", per_device_train_batch_size=4, gradient_accumulation_steps=4)
    assert_same(weights(split), start, exactly=True)
    whole.train()
    split.train()
    assert moved(start, weights(whole)) > 1e-3
    assert_same(weights(split), weights(whole))


@every_kind
def test_accumulation_logs_the_same_numbers(kind, tmp_path):
    logs = []
    for rows, accumulated in ((16, 1), (4, 4)):
        trainer = make_trainer(
            kind, tmp_path / str(rows), per_device_train_batch_size=rows, gradient_accumulation_steps=accumulated,
            logging_strategy="steps", logging_steps=3,
        )  # fmt: skip
        trainer.train()
        logs.append([entry for entry in trainer.state.log_history if "soft_loss" in entry])
    assert len(logs[0]) == len(logs[1]) == 2
    for one, other in zip(*logs, strict=True):
        for name in ("loss", "soft_loss", "hard_loss", "agreement", "gradient_ratio"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


# Two processes start for each of them.
@pytest.mark.parametrize(
    "kind", [kind if kind == "llama" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_two_processes_equal_one(kind, tmp_path):
    one = make_trainer(
        kind, tmp_path / "one", per_device_train_batch_size=16, logging_strategy="steps", logging_steps=2
    )
    start = weights(one)
    one.train()
    evaluated = one.evaluate()
    one.save_model(str(tmp_path / "one"))

    # `accelerate launch --cpu` starts one process unless MPI is installed. This command starts two, which use gloo.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
        *(str(WORKBENCH), kind, str(tmp_path / "two"), "8"),
    ]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-3000:]

    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert moved({k: start[k] for k in first}, first) > 1e-3
    assert_same(second, first)
    result = torch.load(tmp_path / "two" / "result.pt", weights_only=True)
    for name in ("eval_loss", "eval_accuracy"):
        assert result["eval"][name] == pytest.approx(evaluated[name], rel=1e-5), name
    logs = [[e for e in log if "soft_loss" in e] for log in (one.state.log_history, result["log"])]
    for mine, theirs in zip(*logs, strict=True):
        for name in ("loss", "soft_loss", "hard_loss", "agreement", "gradient_ratio"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4), name


@every_kind
@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_a_run_stopped_and_resumed_ends_like_one_that_ran_through(kind, stop_at, tmp_path):
    """Stop in the middle and at the end of an epoch of 4 steps, with dropout, momentum, a schedule and clipping."""
    settings = dict(max_grad_norm=0.5, optim="adamw_torch")
    if kind == "module":
        settings |= dict(dropout=0.3)
    through = make_trainer(kind, tmp_path / "through", **settings)
    through.train()

    stopped = make_trainer(kind, tmp_path / "stopped", save_strategy="steps", save_steps=stop_at, **settings)
    stop_after(stopped, stop_at)
    stopped.train()
    assert stopped.state.global_step == stop_at
    resumed = make_trainer(kind, tmp_path / "stopped", **settings)
    resumed.train(resume_from_checkpoint=True)
    assert_same(weights(resumed), weights(through), exactly=True)


def test_resuming_draws_the_same_augmentation(tmp_path):
    class AsImages(Augmentation):
        """Augmentation of vectors of 6 numbers as if they were images of 2 x 3 pixels."""

        def __call__(self, batch):
            view = super().__call__({"pixel_values": batch["x"].view(-1, 1, 2, 3), "labels": batch["labels"]})
            return {**view, "x": view.pop("pixel_values").reshape(-1, 6)}

    def make(folder, **settings):
        augment = AsImages(shift=1, flip=True, mixup=0.4)
        return make_trainer("module", folder, augment=augment, optim="adamw_torch", **settings)

    through = make(tmp_path / "through")
    through.train()
    stopped = make(tmp_path / "stopped", save_strategy="steps", save_steps=3)
    stop_after(stopped, 3)
    stopped.train()
    resumed = make(tmp_path / "stopped")
    resumed.train(resume_from_checkpoint=True)
    assert_same(weights(resumed), weights(through), exactly=True)


@every_kind
def test_evaluation_sees_every_example_without_a_teacher_at_temperature_1(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, temperature=9.0, per_device_eval_batch_size=7)
    metrics = trainer.evaluate()
    trainer.teacher = None  # evaluation must not need the teacher
    trainer.objective = None
    assert trainer.evaluate()["eval_loss"] == metrics["eval_loss"]
    student, collate = trainer.student, trainer.data_collator
    nll, hits, labelled = 0.0, 0, 0
    for row in trainer.eval_dataset:
        batch = collate([row])
        labels = batch.pop("labels")
        with torch.no_grad():
            output = student(**batch)
        logits = getattr(output, "logits", output)
        if kind == "llama":
            logits, labels = logits[:, :-1], labels[:, 1:]
        for z, y in zip(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), strict=True):
            if y != -100:
                nll -= z.double().log_softmax(-1)[y].item()
                hits += int(z.argmax() == y)
                labelled += 1
    assert metrics["eval_loss"] == pytest.approx(nll / labelled, rel=1e-5)
    assert metrics["eval_accuracy"] == pytest.approx(hits / labelled)


@every_kind
def test_no_file_of_a_run_holds_a_tensor_of_the_teacher_or_a_pickle_of_limbeck(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, save_strategy="steps", save_steps=3, optim="adamw_torch")
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} <= {path.name for path in files}
    # Transformers itself writes these files of tensors and random states, and loads them with weights_only.
    allowed = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert {p.name for p in files if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle")} <= allowed
    needles = [p.detach().numpy().tobytes() for p in trainer.teacher.model.parameters() if p.std() > 0]
    for path in files:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path


def stop_after(trainer, step):
    """Make a trainer stop after a step, as an interruption would."""

    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step >= step

    trainer.add_callback(Stop())
