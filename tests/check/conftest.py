"""The checks of these tests try fewer classes, because most of their time goes there."""

import pytest

from limbeck.check import robustness


@pytest.fixture(autouse=True)
def _few_classes(monkeypatch):
    monkeypatch.setattr(robustness, "MANY_CLASSES", 1_001)
