"""Rows and batches in the forms that people have: all of them end in the same step."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset, default_collate

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.data import Examples, TensorRows
from support.workbench import CLASSES, Net, vectors

ROWS = vectors(16)
X, LABELS = torch.stack([row["x"] for row in ROWS]), torch.stack([row["labels"] for row in ROWS])


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Keywords(Net):
    def forward(self, x, **others):
        return super().forward(x)


def hugging_face(column, **settings):
    import datasets

    return datasets.Dataset.from_dict({"x": X.tolist(), column: LABELS.tolist()}), settings


FORMS = {
    "dictionaries": lambda: (ROWS, {}),
    "pairs": lambda: (TensorDataset(X, LABELS), {}),
    "pairs of Python numbers": lambda: (Rows([(x, int(label)) for x, label in zip(X, LABELS, strict=True)]), {}),
    "pairs, own collator": lambda: (TensorDataset(X, LABELS), {"collate": default_collate}),
    "float64 arrays": lambda: (Rows([{"x": x.double().numpy(), "labels": y} for x, y in zip(X, LABELS, strict=True)]), {}),
    "another input's name": lambda: ([{"features": row["x"], "labels": row["labels"]} for row in ROWS], {}),
    "label": lambda: hugging_face("label"),
    "a label column of its own": lambda: hugging_face("species", label_names=["species"]),
    "another ignored label": lambda: (
        [{"x": x, "labels": torch.where(y == -100, 255, y)} for x, y in zip(X, LABELS, strict=True)],
        {"ignore_index": 255},
    ),
}  # fmt: skip


def trained(data, folder, make=Net, collate=None, **settings):
    torch.manual_seed(0)
    student, teacher = make(), Net(24)
    args = DistillationArguments(
        str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=2, per_device_train_batch_size=16,
        optim="sgd", learning_rate=0.1, **settings,
    )  # fmt: skip
    trainer = DistillationTrainer(student, teacher, args, collate, train_dataset=data, eval_dataset=data)
    trainer.train()
    return student.state_dict(), trainer.evaluate()["eval_loss"]


@pytest.mark.parametrize("make", [Net, Keywords])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_the_same_student(form, make, tmp_path):
    data, settings = FORMS[form]()
    weights, loss = trained(data, tmp_path, make, **settings)
    expected, expected_loss = trained(ROWS, tmp_path)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name])


def test_labels_that_are_not_found_are_missed(tmp_path):
    data, _ = hugging_face("species")
    with pytest.raises(ValueError, match=r"batches have x and no labels.*label_names=\['...'\]"):
        trained(data, tmp_path)
    with pytest.raises(ValueError, match="label_names: expected the name of one column"):
        trained(ROWS, tmp_path, label_names=["start", "end"])


def test_something_that_is_no_batch(tmp_path):
    with pytest.raises(TypeError, match=r"data_collator: expected a dictionary of tensors, or a pair .*got Tensor"):
        trained(TensorDataset(X, LABELS), tmp_path, collate=lambda rows: X)


def test_class_weights_are_those_of_the_hard_term(tmp_path):
    """Weights that leave one class alone: the other classes' labels change nothing."""
    only = [0.0] * CLASSES
    only[1] = 3.0
    settings = dict(alpha=0.0, class_weights=only)
    kept = torch.where(LABELS == 1, LABELS, torch.where(LABELS == -100, -100, 2))
    changed = [{"x": x, "labels": label} for x, label in zip(X, kept, strict=True)]
    first, second = trained(ROWS, tmp_path, **settings)[0], trained(changed, tmp_path, **settings)[0]
    unweighted = trained(ROWS, tmp_path, alpha=0.0)[0]
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, unweighted[name]) for name, value in first.items())


def test_numpy_rows_reach_a_student_in_float64(tmp_path):
    rows = [{"x": np.asarray(row["x"], dtype=np.float64), "labels": row["labels"]} for row in ROWS]
    assert trained(rows, tmp_path, make=lambda: Net().double())[0]["body.0.weight"].dtype == torch.float64


def test_the_collator_stays_the_users(tmp_path):
    args = DistillationArguments(str(tmp_path), use_cpu=True)
    trainer = DistillationTrainer(nn.Linear(6, 4), nn.Linear(6, 4), args, default_collate, train_dataset=ROWS)
    trainer.get_train_dataloader()
    assert trainer.data_collator is default_collate


def test_examples_need_no_collator(tmp_path):
    rows = torch.stack([row["x"] for row in vectors(16)])
    examples = Examples(TensorRows("x", rows), torch.arange(16) % 4)
    args = DistillationArguments(str(tmp_path), use_cpu=True, max_steps=2, disable_tqdm=True, save_strategy="no")
    trainer = DistillationTrainer(Net(), Net(), args, train_dataset=examples, eval_dataset=examples)
    assert trainer.train().global_step == 2
    assert trainer.evaluate()["eval_loss"] > 0
