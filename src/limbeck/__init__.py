"""Limbeck: knowledge distillation with the temperature right in training and gone at inference."""

# ruff: noqa: F403, F405  (type checkers see through the star imports, and __all__ says which names are public)

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.losses import *
    from limbeck.training import *

__version__ = "0.1.0"

# A module is loaded when one of its names is first asked for: `import limbeck` and `limbeck --help` load neither torch nor
# transformers.
_HOMES = {
    "limbeck.losses": (
        "CollapsedTeacherWarning",
        "DistillationLoss",
        "Divergence",
        "LossParts",
        "SparseTargets",
        "distillation_loss",
        "distillation_loss_parts",
        "linear_distillation_loss",
        "linear_distillation_loss_parts",
        "logit_mse_loss",
        "sparse_distillation_loss",
        "sparse_distillation_loss_parts",
        "sparse_linear_distillation_loss",
        "sparse_linear_distillation_loss_parts",
    ),
    "limbeck.training": ("DistillationArguments", "DistillationTrainer"),
}

__all__ = [
    "CollapsedTeacherWarning",
    "DistillationArguments",
    "DistillationLoss",
    "DistillationTrainer",
    "Divergence",
    "LossParts",
    "SparseTargets",
    "__version__",
    "distillation_loss",
    "distillation_loss_parts",
    "linear_distillation_loss",
    "linear_distillation_loss_parts",
    "logit_mse_loss",
    "sparse_distillation_loss",
    "sparse_distillation_loss_parts",
    "sparse_linear_distillation_loss",
    "sparse_linear_distillation_loss_parts",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
