"""Limbeck: knowledge distillation with the temperature right in training and gone at inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.losses import (
        DistillationLoss as DistillationLoss,
    )
    from limbeck.losses import (
        SparseTargets as SparseTargets,
    )
    from limbeck.losses import (
        distillation_loss as distillation_loss,
    )
    from limbeck.losses import (
        linear_distillation_loss as linear_distillation_loss,
    )
    from limbeck.losses import (
        logit_mse_loss as logit_mse_loss,
    )
    from limbeck.losses import (
        sparse_distillation_loss as sparse_distillation_loss,
    )
    from limbeck.losses import (
        sparse_linear_distillation_loss as sparse_linear_distillation_loss,
    )
    from limbeck.training import (
        DistillationArguments as DistillationArguments,
    )
    from limbeck.training import (
        DistillationTrainer as DistillationTrainer,
    )

__version__ = "0.1.0"

# Loaded when first asked for: `import limbeck` and `limbeck --help` load neither torch nor transformers.
_HOMES = {
    "distillation_loss": "limbeck.losses",
    "linear_distillation_loss": "limbeck.losses",
    "logit_mse_loss": "limbeck.losses",
    "SparseTargets": "limbeck.losses",
    "sparse_distillation_loss": "limbeck.losses",
    "sparse_linear_distillation_loss": "limbeck.losses",
    "DistillationLoss": "limbeck.losses",
    "DistillationTrainer": "limbeck.training",
    "DistillationArguments": "limbeck.training",
}

__all__ = [
    "DistillationArguments",
    "DistillationLoss",
    "DistillationTrainer",
    "SparseTargets",
    "__version__",
    "distillation_loss",
    "linear_distillation_loss",
    "logit_mse_loss",
    "sparse_distillation_loss",
    "sparse_linear_distillation_loss",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
