import pytest

from limbeck.losses import kernel_choice


@pytest.fixture(autouse=True, params=["reference", "auto"])
def backend(request, monkeypatch):
    """Every test of the losses runs on the reference and on the kernels, where the call leaves the choice open."""
    monkeypatch.setattr(kernel_choice, "default_backend", request.param)
    return request.param
