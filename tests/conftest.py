import gc
import os

import hypothesis
import pytest

import support.triton_device  # noqa: F401 (before anything imports Triton)

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests must pass without the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(autouse=True, scope="module")
def _freeze():
    """Hide what is loaded from the garbage collector: each training collects, and would walk through all of it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """Give back what was taken out of sight, so that the end of the process finds it."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _seed():
    """Seed torch before each test."""
    import torch

    torch.manual_seed(0)
