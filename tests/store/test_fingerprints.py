"""Fingerprints: they change if the model or the examples change, and only then."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data import Examples
from limbeck.errors import StoreError
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from support.stores import INPUTS, ROWS, draw, examples, teacher


def test_the_fingerprint_of_a_model_depends_on_its_weights():
    assert fingerprint_of_model(teacher()) == fingerprint_of_model(teacher())
    assert fingerprint_of_model(teacher()) != fingerprint_of_model(teacher(1))
    changed = teacher()
    with torch.no_grad():
        changed[2].bias[-1] += 1e-7
    assert fingerprint_of_model(changed) != fingerprint_of_model(teacher())


def test_the_fingerprint_of_examples_does_not_depend_on_their_order():
    assert fingerprint_of_examples(examples()) == fingerprint_of_examples(examples())
    assert fingerprint_of_examples(examples()) != fingerprint_of_examples(examples(seed=1))
    order = torch.randperm(ROWS)
    assert fingerprint_of_examples(examples().subset(order)) == fingerprint_of_examples(examples())
    assert fingerprint_of_examples(examples().subset(order[1:])) != fingerprint_of_examples(examples())


MANY = draw(4000, INPUTS)


class Rows:
    """A loader of rows of a tensor, which counts how many are loaded."""

    def __init__(self, values):
        self.values, self.loaded = values, 0

    def __call__(self, rows):
        self.loaded += len(rows)
        return {"x": self.values[rows]}


class RowsWithSource(Rows):
    """The same, which tells the bytes that a row is loaded from."""

    def source_bytes(self, rows):
        return (self.values[row].numpy().tobytes() for row in rows)


@pytest.mark.parametrize("loader", [Rows, RowsWithSource])
@given(pair=st.lists(st.integers(0, 3999), min_size=2, max_size=2, unique=True))
def test_any_two_examples_that_change_places_are_seen(loader, pair):
    values = MANY.clone()
    values[pair] = MANY[pair[::-1]]
    one, other = (Examples(loader(x), torch.zeros(4000)) for x in (MANY, values))
    assert fingerprint_of_examples(one) != fingerprint_of_examples(other)


def test_examples_with_source_bytes_are_not_all_loaded():
    rows = RowsWithSource(MANY)
    fingerprint_of_examples(Examples(rows, torch.zeros(4000)))
    assert rows.loaded == 64


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(3), np.arange(3)[::-1].copy()),
        (["a", "b"], ["b", "a"]),
        (1, 2),
        (None, 0.5),
        ([[1], [2]], [[1, 2], []]),
    ],
)
def test_entries_that_are_no_tensors_are_seen(one, other):
    prints = {fingerprint_of_examples(Examples(lambda _, x=x: {"x": x}, torch.zeros(2))) for x in (one, other, one)}
    assert len(prints) == 2


def test_an_entry_that_cannot_be_compared_is_refused():
    with pytest.raises(StoreError, match="x: the batch has a object there, which cannot be compared"):
        fingerprint_of_examples(Examples(lambda _: {"x": object()}, torch.zeros(2)))
