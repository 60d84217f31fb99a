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
    """Return normal random numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def teacher(seed=0):
    """Return a small model, the same for the same seed."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(INPUTS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))


def examples(rows=ROWS, seed=0):
    """Return unlabelled examples with random inputs."""
    return Examples(TensorRows("pixel_values", draw(rows, INPUTS, seed=seed)), torch.zeros(rows))


def build(folder, codec=None, **options):
    """Build the store of the teacher and the examples, by default in float32 with 4 shards."""
    options = dict(batch_size=7, shard_rows=16) | options
    return build_store(teacher(), examples(), folder, codec or Dense("float32"), **options)


def contents(folder):
    """Return the bytes of every file in a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def live(ids):
    """Return the logits that the teacher itself computes for some examples."""
    return LiveTeacher(teacher())(examples().load(ids.tolist())).logits
