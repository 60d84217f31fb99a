import pytest

from limbeck.losses import dispatch


@pytest.fixture(autouse=True, params=["reference", "rows"])
def backend(request, monkeypatch):
    """Every test of the losses runs on each backend that this machine has, where the call leaves the choice open."""
    kernel_for = dispatch.kernel_for
    if request.param == "reference":

        def no_kernel(call, given, group=None):
            return kernel_for(call, "reference" if given == "auto" else given, group)

        monkeypatch.setattr(dispatch, "kernel_for", no_kernel)
    return request.param
