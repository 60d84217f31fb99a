"""The values that a format is given: which of them it can hold."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.store.errors import UnstorableError


def check_softmax(logits: Tensor) -> None:
    """Check that every position has a softmax: no NaN, no +inf, and not only -inf. A class at -inf is an absent one.

    Args:
        logits: (P, V), any floating dtype.

    Raises:
        UnstorableError: the softmax of some positions is NaN.
    """
    wrong = ~logits.amax(-1).isfinite()  # the maximum of a row with NaN is NaN
    if bool(wrong.any()):
        raise UnstorableError(
            "teacher",
            "its logits are NaN, +inf or all -inf, which leaves no probabilities. Was it run in float16, or on broken inputs?",
            wrong,
        )


def convert(values: Tensor, name: Literal["float32", "float16", "bfloat16"], of: str) -> np.ndarray:
    """Return values in the dtype that is stored, after checking that no finite one becomes infinite.

    Args:
        values: (P, width), any floating dtype.
        name: the dtype that is stored.
        of: what the values are, for the message: "logits" or "hidden states".

    Returns:
        (P, width) of that dtype; bfloat16 as the uint16 with the same bits.

    Raises:
        UnstorableError: a value is too large for the dtype.
    """
    dtype: torch.dtype = getattr(torch, name)
    stored = values.to(dtype)
    if stored.dtype != values.dtype and bool(stored.isinf().any()):
        wrong = (stored.isinf() & values.isfinite()).any(-1)
        if bool(wrong.any()):
            largest, wider = torch.finfo(dtype).max, "float32 or bfloat16" if name == "float16" else "dense float32"
            limit = f"{largest:,.0f}" if largest < 1e6 else f"{largest:.1e}"
            message = f"the teacher's {of} go beyond {name} ({limit}). Store them as {wider}."
            raise UnstorableError("dtype", message, wrong)
    return stored.view(torch.int16).numpy().view(np.uint16) if name == "bfloat16" else stored.numpy()
