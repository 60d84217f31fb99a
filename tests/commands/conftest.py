"""Runs that the tests of several commands share."""

import pytest

from support.command_line import run_limbeck
from support.runs import DISTILLATION, SEARCH, FinishedRun, options


@pytest.fixture
def config(tmp_path):
    """The config of a small distillation, as a file."""
    path = tmp_path / "config.yaml"
    path.write_text(DISTILLATION)
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A distilled student, with its teacher. Tests must not change the folder."""
    folder = tmp_path_factory.mktemp("finished")
    config = folder / "config.yaml"
    config.write_text(DISTILLATION)
    printed = run_limbeck("distill", config, "--out", folder / "run", *options("training.max_steps=120"))
    return FinishedRun(config, folder / "run", printed)


@pytest.fixture(scope="session")
def searched_run(tmp_path_factory):
    """A student that was distilled at the temperature that a search found. Searches of the same students change nothing."""
    folder = tmp_path_factory.mktemp("searched")
    config = folder / "config.yaml"
    config.write_text(SEARCH)
    printed = run_limbeck("distill", config, "--out", folder / "run")
    return FinishedRun(config, folder / "run", printed)
