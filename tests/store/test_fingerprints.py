"""Fingerprints: they change if the model or the examples change, and only then."""

import torch

from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from support.stores import ROWS, examples, teacher


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
