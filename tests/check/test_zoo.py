"""Right losses are not accused, and each wrong one is named by the right property."""

from functools import lru_cache

import pytest

from limbeck.check import Verdict, check_loss
from support import zoo

SEQUENCES = (3, 4, 7)


@lru_cache
def report(loss, shape=None):
    return check_loss(loss, shape=shape)


def name(thing):
    return getattr(thing, "__name__", None) or str(getattr(thing, "keywords", thing))


def accused(loss, shape=None):
    return [(finding.property, finding.shown) for finding in report(loss, shape).wrong]


@pytest.mark.parametrize("loss", zoo.RIGHT, ids=name)
def test_a_right_loss_is_not_accused(loss):
    assert accused(loss) == []


@pytest.mark.parametrize("loss", zoo.RIGHT_ON_SEQUENCES, ids=name)
def test_a_right_loss_of_sequences_is_not_accused(loss):
    assert accused(loss, SEQUENCES) == []


@pytest.mark.parametrize(("loss", "named"), zoo.WRONG, ids=name)
def test_a_wrong_loss_is_named(loss, named):
    finding = report(loss)[named]
    assert finding.verdict is Verdict.WRONG
    assert finding.fix


@pytest.mark.parametrize(("loss", "named"), zoo.WRONG_ON_SEQUENCES, ids=name)
def test_a_wrong_loss_of_sequences_is_named(loss, named):
    finding = report(loss, SEQUENCES)[named]
    assert finding.verdict is Verdict.WRONG
    assert finding.fix


@pytest.mark.parametrize(("loss", "named"), zoo.LIMITED, ids=name)
def test_a_limit_is_named(loss, named):
    finding = report(loss)[named]
    assert finding.verdict is Verdict.LIMITED
    assert finding.fix
