"""The soft term of two models whose classes are not the same ones: it compares sorted probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from limbeck.errors import ArgumentError
from limbeck.losses.divergences import TVD, ForwardKL
from limbeck.losses.functional import dense_loss_parts
from limbeck.losses.inspection import check_numbers
from limbeck.losses.labels import counted_positions
from limbeck.losses.module import DistillationLoss
from limbeck.losses.parts import LossParts
from limbeck.losses.sparse_targets import SparseTargets


class UniversalLogitLoss(DistillationLoss):
    r"""Universal logit distillation: the loss of models whose classes differ, such as language models with other tokenizers.

        loss = alpha * C(T) * Σ |p_s↓ - p_t↓| + (1 - alpha) * CE(z_s, y)

    p↓ are the probabilities at temperature T from the largest to the smallest. The shorter vector is padded with zeros. The sum
    is the cost of the optimal transport between both distributions where every class is as far from every other one
    (Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs", 2024).
    It is twice the total variation of the sorted vectors, and so C(T) = T, as for "tvd". All logits are needed, because a
    small probability has its place only when all are sorted.

    The teacher's logits are at the student's positions. A position where all of them are -inf has no partner at the teacher: it
    has no soft term, and it counts in the mean. What the loss does not know is which token a probability belongs to: it teaches
    how sure the teacher is, and the hard term has to teach of what.

    It takes the settings of ``DistillationLoss``, without a divergence.

    Raises:
        ArgumentError: a setting has a wrong range or choice, or a divergence is named.
        ArgumentTypeError: a setting has a wrong type.

    Example:
        >>> import torch
        >>> from limbeck.losses import UniversalLogitLoss
        >>> student, teacher = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
        >>> UniversalLogitLoss(temperature=1.0, alpha=1.0)(student, teacher)  # |.5 - .75| + |.25 - .25| + |.25 - 0|
        tensor(0.5000)
    """

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.divergence != ForwardKL():
            raise ArgumentError(
                "divergence", f"alignment 'uld' has its own distance, got {self.divergence!r}. Leave it out."
            )
        if self.class_dim != -1 or self.group is not None:
            raise ArgumentError("class_dim", "alignment 'uld' sorts whole logits with the classes last.")

    def _inspect(self, teacher: Tensor, labels: Tensor | None, mask: Tensor | None, temperature: Any) -> bool:
        """Check that the logits are numbers."""
        check_numbers("teacher_logits", teacher, mask)
        return True

    def _loss(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        labels: Tensor | None,
        *,
        mask: Tensor | None = None,
        num_items: Tensor | float | None = None,
        **changed: Any,
    ) -> LossParts:
        """Return the loss with the module's settings, except for those that are changed."""
        if isinstance(teacher, SparseTargets):
            raise ArgumentError("teacher", "sparse targets know some probabilities, and alignment 'uld' sorts all.")
        counted = counted_positions(labels, mask, self.ignore_index)
        if self.reduction == "mean" and num_items is None:
            num_items = student_logits[..., 0].numel() if counted is None else counted.sum().clamp(min=1)
        settings = {"backend": self.backend, "class_dim": -1, "group": None} | self._settings() | changed
        settings |= {"num_items": num_items, "with_parts": True, "inplace": False}
        if teacher is None and self.alpha > 0:
            raise ArgumentError("teacher", f"needed for the soft term when alpha = {self.alpha:g}.")
        soft = hard = None
        if teacher is not None and self.alpha > 0:
            width = max(student_logits.shape[-1], teacher.shape[-1])
            paired = ~teacher.isneginf().all(-1)
            paired = paired if counted is None else paired & counted
            of_soft = settings | {"alpha": 1.0, "divergence": TVD(), "weight": None, "mask": paired}
            both = _sorted(student_logits, width), _sorted(teacher.masked_fill(~paired.unsqueeze(-1), 0.0), width)
            found = dense_loss_parts(*both, None, **of_soft).soft
            soft = None if found is None else 2 * found
        if labels is not None or self.alpha < 1:
            hard = dense_loss_parts(student_logits, None, labels, **settings | {"alpha": 0.0, "mask": mask}).hard
        terms = (self.alpha, soft), (1 - self.alpha, hard)
        weighted = [part * term for part, term in terms if term is not None and part > 0]
        return LossParts(sum(weighted[1:], weighted[0]), soft, hard)

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"temperature={self.temperature}, alpha={self.alpha}"


def _sorted(logits: Tensor, width: int) -> Tensor:
    """Return logits in descending order, with -inf after the last one up to a width: those of sorted, padded probabilities."""
    return pad(logits.sort(-1, descending=True).values, (0, width - logits.shape[-1]), value=-torch.inf)
