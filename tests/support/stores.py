"""A small teacher, its examples and their store, for the tests of the store."""

from pathlib import Path

import pytest
import torch

from limbeck.data import Examples
from limbeck.data.examples import TensorRows
from limbeck.store import Dense, Sampled, TopK, build_store
from limbeck.teachers import LiveTeacher

ROWS, INPUTS, CLASSES = 50, 8, 37
CODECS = [
    Dense("float32"), Dense("float16"), Dense("bfloat16"), Dense("int8"), TopK(5), TopK(5, (2.0, 4.0), "float32"),
    Sampled(12), Sampled(7, 2.0),
]  # fmt: skip
every_codec = pytest.mark.parametrize("codec", CODECS, ids=repr)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def teacher(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(INPUTS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))


def examples(rows=ROWS, seed=0):
    return Examples(TensorRows("pixel_values", draw(rows, INPUTS, seed=seed)), torch.zeros(rows))


def build(folder, codec=None, **options):
    options = dict(batch_size=7, shard_rows=16) | options
    return build_store(teacher(), examples(), folder, codec or Dense("float32"), **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def live(ids):
    return LiveTeacher(teacher())(examples().load(ids.tolist())).logits
