"""The types and the defaults of the arguments that all losses share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

DEFAULT_TEMPERATURE = 4.0
"""T where none is given, for losses that know all of the teacher's logits."""

DEFAULT_ALPHA = 0.9
"""The weight of the soft term where none is given.

Hinton et al. (2015) had their best results with a considerably lower weight on the hard labels, and all of this project's
studies were run at 0.9.
"""

IGNORE_INDEX = -100
"""The label of a position that has none, as in torch."""

Temperature = float | Tensor | tuple[float | Tensor, float | Tensor]
"""T for both models, a tensor (...,) with one T for each position, or a pair (T_teacher, T_student) of these."""

Compensate = bool | Literal["curvature"]
"""True multiplies the soft term by C(T), "curvature" also divides by f''(1), False does neither."""

Reduction = Literal["mean", "sum", "none"]
"""How the values of the positions become the loss."""
