"""The losses that distillation minimises. May import torch, ``limbeck.kernels`` and nothing else above them.

So anybody can lift them into another trainer. ``reference`` is the whole mathematics on one page; ``divergences`` has a small
class for each divergence; ``functional``, ``linear``, ``sparse`` and ``module`` have what users call; ``checks`` checks what
they give, ``inspection`` looks at the teacher, ``dispatch`` makes rows of it, and ``kernel_choice`` finds their kernel.
"""

from limbeck.losses.arguments import DEFAULT_ALPHA, DEFAULT_TEMPERATURE, IGNORE_INDEX
from limbeck.losses.arithmetic import expectation
from limbeck.losses.distance import (
    DistanceLoss,
    EmbeddingLoss,
    distance_distillation_loss,
    distance_distillation_loss_parts,
)
from limbeck.losses.divergences import DIVERGENCES, Divergence, register_divergence
from limbeck.losses.functional import distillation_loss, distillation_loss_parts, logit_mse_loss
from limbeck.losses.inspection import CollapsedTeacherWarning
from limbeck.losses.linear import linear_distillation_loss, linear_distillation_loss_parts
from limbeck.losses.module import DistillationLoss
from limbeck.losses.parts import LossParts
from limbeck.losses.sigmoid import (
    SigmoidDistillationLoss,
    sigmoid_distillation_loss,
    sigmoid_distillation_loss_parts,
)
from limbeck.losses.sparse import (
    sparse_distillation_loss,
    sparse_distillation_loss_parts,
    sparse_linear_distillation_loss,
    sparse_linear_distillation_loss_parts,
)
from limbeck.losses.sparse_targets import SparseTargets
from limbeck.losses.universal import UniversalLogitLoss

FAMILIES: dict[str, type[DistillationLoss]] = {
    "softmax": DistillationLoss,
    "sigmoid": SigmoidDistillationLoss,
    "distance": DistanceLoss,
    "embedding": EmbeddingLoss,
}
"""The loss for each meaning of outputs: one softmax over all classes, a sigmoid for each class, numbers, or embeddings."""

__all__ = [
    "DEFAULT_ALPHA",
    "DEFAULT_TEMPERATURE",
    "DIVERGENCES",
    "FAMILIES",
    "IGNORE_INDEX",
    "CollapsedTeacherWarning",
    "DistanceLoss",
    "DistillationLoss",
    "Divergence",
    "EmbeddingLoss",
    "LossParts",
    "SigmoidDistillationLoss",
    "SparseTargets",
    "UniversalLogitLoss",
    "distance_distillation_loss",
    "distance_distillation_loss_parts",
    "distillation_loss",
    "distillation_loss_parts",
    "expectation",
    "linear_distillation_loss",
    "linear_distillation_loss_parts",
    "logit_mse_loss",
    "register_divergence",
    "sigmoid_distillation_loss",
    "sigmoid_distillation_loss_parts",
    "sparse_distillation_loss",
    "sparse_distillation_loss_parts",
    "sparse_linear_distillation_loss",
    "sparse_linear_distillation_loss_parts",
]
