"""A run that becomes NaN stops at once, says by which examples, and leaves the last good checkpoint."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import TrainingError
from limbeck.training import last_complete_checkpoint
from limbeck.training.not_finite import error_about_loss
from support.workbench import CLASSES, Net, vectors


def make(folder, teacher, student=None, **settings):
    rows = [row | {"example_id": torch.tensor(100 + i)} for i, row in enumerate(vectors())]
    quiet = dict(
        use_cpu=True, disable_tqdm=True, save_steps=1, save_total_limit=1, max_steps=8, per_device_train_batch_size=8
    )
    args = DistillationArguments(str(folder), **(quiet | settings))
    return DistillationTrainer(student or Net(), teacher, args, train_dataset=rows)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_teacher_that_fails_after_the_first_batch(value, tmp_path):
    calls = []

    def teacher(batch):
        calls.append(batch["example_id"])
        logits = torch.zeros(8, CLASSES)
        if len(calls) >= 4:
            logits[2, 1] = logits[5, 0] = value
        return logits

    trainer = make(tmp_path, teacher)
    with pytest.raises(
        TrainingError, match=r"step \d: the teacher's logits are NaN or infinite for example_id"
    ) as caught:
        trainer.train()
    seen = calls[-1]
    assert f"example_id {int(seen[2])}, {int(seen[5])}." in str(caught.value)
    assert all(weight.isfinite().all() for weight in trainer.student.parameters())
    checkpoint = last_complete_checkpoint(tmp_path)
    assert all(weight.isfinite().all() for weight in load_file(checkpoint / "model.safetensors").values())
    assert f"step {int(checkpoint.name.split('-')[1]) + 1}:" in str(caught.value)


@pytest.mark.parametrize("at", [3, 8])
def test_weights_that_become_nan_are_not_saved_over_good_ones(at, tmp_path):
    """The loss of the step was still finite: its gradient was not."""

    class Break(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model=None, **kwargs):
            if state.global_step + 1 == at:
                model.body[0].weight.data[0, 0] = torch.nan

    trainer = make(tmp_path, Net(24))
    trainer.add_callback(Break())
    with pytest.raises(TrainingError, match=rf"step {at}: the student's weights .*body\.0\.weight\). .*learning_rate"):
        trainer.train()
    assert last_complete_checkpoint(tmp_path).name == f"checkpoint-{at - 1}"


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_a_student_that_diverges(strategy, tmp_path):
    settings = dict(learning_rate=1e38, optim="sgd", max_grad_norm=0.0, save_strategy=strategy)
    trainer = make(tmp_path, Net(24), nn.Linear(6, CLASSES), **settings)
    with pytest.raises(TrainingError, match=r"step \d: the (student's|loss)"):
        trainer.train()


def test_absent_classes_are_no_fault(tmp_path):
    class Masked(Net):
        def forward(self, x):
            return super().forward(x).index_fill(-1, torch.tensor([3]), -torch.inf)

    trainer = make(tmp_path, Masked(24), max_steps=1, alpha=1.0)
    trainer.model.forward = lambda x: trainer.model.body(x).index_fill(-1, torch.tensor([3]), -torch.inf)
    assert trainer.train().global_step == 1


@given(
    broken=st.sets(st.integers(0, 19), min_size=1),
    value=st.sampled_from([torch.nan, torch.inf]),
    with_ids=st.booleans(),
    length=st.sampled_from([None, 3]),
)
def test_the_broken_rows_are_named(broken, value, with_ids, length):
    student, teacher = (torch.zeros(20, *([length] if length else []), 4) for _ in range(2))
    for row in broken:
        teacher[row].view(-1)[-1] = value
    batch = {"example_id": torch.arange(20) + 50} if with_ids else {}
    said = str(error_about_loss(7, batch, student, teacher))
    offset = 50 if with_ids else 0
    names = ", ".join(str(row + offset) for row in sorted(broken)[:8])
    assert (
        f"step 7: the teacher's logits are NaN or infinite for {'example_id' if with_ids else 'the rows of its batch'} {names}"
        in said
    )
