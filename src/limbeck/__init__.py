"""Limbeck: knowledge distillation with the temperature right in training and gone at inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.errors import (
        ArgumentError,
        ArgumentTypeError,
        ConfigError,
        DataError,
        LimbeckError,
        ModelError,
        StoreError,
    )
    from limbeck.inference import load
    from limbeck.losses import (
        CollapsedTeacherWarning,
        DistillationLoss,
        Divergence,
        LossParts,
        SparseTargets,
        distillation_loss,
        distillation_loss_parts,
        linear_distillation_loss,
        linear_distillation_loss_parts,
        logit_mse_loss,
        sparse_distillation_loss,
        sparse_distillation_loss_parts,
        sparse_linear_distillation_loss,
        sparse_linear_distillation_loss_parts,
    )
    from limbeck.store import StoredTeacher, build_store
    from limbeck.teachers import Ensemble, Teacher, TeacherOutput
    from limbeck.training import DistillationArguments, DistillationTrainer

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "CollapsedTeacherWarning",
    "ConfigError",
    "DataError",
    "DistillationArguments",
    "DistillationLoss",
    "DistillationTrainer",
    "Divergence",
    "Ensemble",
    "LimbeckError",
    "LossParts",
    "ModelError",
    "SparseTargets",
    "StoreError",
    "StoredTeacher",
    "Teacher",
    "TeacherOutput",
    "__version__",
    "build_store",
    "distillation_loss",
    "distillation_loss_parts",
    "linear_distillation_loss",
    "linear_distillation_loss_parts",
    "load",
    "logit_mse_loss",
    "sparse_distillation_loss",
    "sparse_distillation_loss_parts",
    "sparse_linear_distillation_loss",
    "sparse_linear_distillation_loss_parts",
]

# A name is looked up in these rooms when it is first asked for, the light ones first, so that `import limbeck` and
# `limbeck --help` load neither torch nor transformers.
_ROOMS = (
    "limbeck.errors",
    "limbeck.losses",
    "limbeck.teachers",
    "limbeck.store",
    "limbeck.training",
    "limbeck.inference",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            module = importlib.import_module(room)
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
