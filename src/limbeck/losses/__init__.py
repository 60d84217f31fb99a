"""What is minimised. Needs nothing but torch, so that the losses can be lifted into any trainer.

``reference`` is the whole mathematics on one page; ``divergences`` has a small class for each divergence; ``functional``
has the public functions, ``dispatch`` finds the backend that computes them, ``checks`` checks their input;
``objectives`` has the same as modules.
"""

from limbeck.losses.checks import CollapsedTeacherWarning
from limbeck.losses.divergences import DIVERGENCES, Divergence
from limbeck.losses.functional import LossParts, distillation_loss, logit_mse_loss
from limbeck.losses.linear import linear_distillation_loss
from limbeck.losses.module import DistillationLoss
from limbeck.losses.sparse import sparse_distillation_loss, sparse_linear_distillation_loss
from limbeck.losses.sparse_targets import SparseTargets

__all__ = [
    "DIVERGENCES",
    "CollapsedTeacherWarning",
    "DistillationLoss",
    "Divergence",
    "LossParts",
    "SparseTargets",
    "distillation_loss",
    "linear_distillation_loss",
    "logit_mse_loss",
    "sparse_distillation_loss",
    "sparse_linear_distillation_loss",
]
