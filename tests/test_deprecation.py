"""A warning before something goes: at the user's line, with what to write and until when."""

import warnings

import pytest
import torch

from limbeck import DistillationLoss, distillation_loss, distillation_loss_parts, linear_distillation_loss
from limbeck.deprecation import warn_deprecated


def test_it_names_what_goes_what_to_use_and_the_version():
    with pytest.warns(FutureWarning, match=r"^f\(old=\) will be removed in Limbeck 9\.0\.0\. Use f\(new=\)\.$") as told:
        warn_deprecated("f(old=)", use="f(new=)", removed_in="9.0.0")
    assert told[0].filename == __file__


def test_it_is_shown_by_default():
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python's default outside of __main__
        warn_deprecated("a", use="b", removed_in="9.0.0")
    assert len(told) == 1


LOGITS, EYE = torch.zeros(2, 3), torch.eye(3)


@pytest.mark.parametrize(
    "use",
    [
        lambda backend: distillation_loss(LOGITS, LOGITS, alpha=1, backend=backend),
        lambda backend: distillation_loss_parts(LOGITS, LOGITS, alpha=1, backend=backend),
        lambda backend: linear_distillation_loss(LOGITS, EYE, LOGITS, EYE, alpha=1, backend=backend),
        lambda backend: DistillationLoss(backend=backend),
    ],
    ids=["function", "parts", "fused", "module"],
)
def test_the_old_name_of_the_cpu_backend(use):
    with pytest.warns(FutureWarning, match="backend='rows'.*Use backend='cpu'") as told:
        use("rows")
    assert [warning.filename for warning in told] == [__file__]
    use("cpu")
