"""A search that the tests of several files show."""

import math

import pytest

from limbeck.temperature import search


@pytest.fixture(scope="session")
def choice():
    """The choice of a search whose students are the better, the nearer T is to 4; without a teacher they get 0.7."""

    def train(trial):
        if trial.alpha == 0:
            return 0.7
        return 0.9 - 0.05 * abs(math.log(trial.temperature / 4)) + 0.001 * trial.seed

    return search(train)
