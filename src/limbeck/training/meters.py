"""What is measured while training and evaluating: sums that add up over micro-batches, steps and processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from limbeck.losses import LossParts, SparseTargets
from limbeck.training.tasks import IGNORE


class DistillationMeter:
    """The parts of the loss, the agreement with the teacher and the pull of both terms, between two logs."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: Tensor | None = None  # soft, hard, agreement: each micro-batch's share of its step's mean
        self._squares: Tensor | None = None  # squared norms of the soft and the hard gradient
        self._steps = 0

    def begin_step(self) -> None:
        """Count one step, whatever number of micro-batches it has."""
        self._steps += 1

    def add(
        self,
        parts: LossParts,
        logits: Tensor,
        teacher: Tensor | SparseTargets,
        mask: Tensor,
        num_items: Tensor | int | None,
    ) -> None:
        """Count one micro-batch."""
        same = (logits.detach().argmax(-1) == _first_class(teacher)) & mask
        counted = mask.sum() if num_items is None else num_items
        agreement = same.sum() / torch.as_tensor(counted, device=same.device).clamp(min=1)
        terms = (torch.zeros_like(parts.total) if term is None else term for term in (parts.soft, parts.hard))
        sums = torch.stack([*(term.detach().float() for term in terms), agreement.float()])
        self._sums = sums if self._sums is None else self._sums + sums

    def add_gradients(self, parts_for: Callable[[Tensor], LossParts], logits: Tensor, alpha: float) -> None:
        """Measure how strongly either term pulls at the logits, on a copy of them."""
        copy = logits.detach().requires_grad_()
        parts = parts_for(copy)
        if parts.soft is None or parts.hard is None or not 0 < alpha < 1:
            return
        (soft,) = torch.autograd.grad(parts.soft, copy, retain_graph=True)
        (hard,) = torch.autograd.grad(parts.hard, copy)
        squares = torch.stack([(alpha * soft).square().sum(), ((1 - alpha) * hard).square().sum()]).float()
        self._squares = squares if self._squares is None else self._squares + squares

    def means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means over the steps since the last call, summed over processes by ``reduce``; then start again."""
        if self._sums is None:
            return {}
        soft, hard, agreement = (reduce(self._sums) / self._steps).tolist()
        means = {"soft_loss": soft, "hard_loss": hard, "agreement": agreement}
        if self._squares is not None:
            soft_square, hard_square = reduce(self._squares).tolist()
            if hard_square > 0:
                means["gradient_ratio"] = (soft_square / hard_square) ** 0.5
        self.reset()
        return means


def _first_class(teacher: Tensor | SparseTargets) -> Tensor:
    """The teacher's most likely class; of draws, the one that was drawn most often."""
    if isinstance(teacher, Tensor):
        return teacher.argmax(-1)
    if teacher.log_probs is not None:
        return teacher.ids.gather(-1, teacher.log_probs.argmax(-1, keepdim=True)).squeeze(-1)
    return teacher.ids.mode(-1).values


class EvaluationMeter:
    """Cross-entropy and accuracy at T = 1, per labelled position of the whole set."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: Tensor | None = None

    @staticmethod
    def rows(logits: Tensor, labels: Tensor) -> Tensor:
        """For each example: the sum of its cross-entropies, its hits, and its labelled positions: (N, 3)."""
        logits = logits.float()
        nll = cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none")
        labelled = labels != IGNORE
        hits = (logits.argmax(-1) == labels) & labelled
        columns = (nll.view_as(labels), hits, labelled)
        return torch.stack([column.reshape(len(labels), -1).float().sum(-1) for column in columns], -1)

    def add(self, rows: Tensor) -> None:
        """Count some rows."""
        sums = rows.cpu().double().sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self) -> dict[str, float]:
        """``loss`` and ``accuracy``; empty when nothing had a label."""
        if self._sums is None or self._sums[2] == 0:
            return {}
        nll, hits, labelled = self._sums.tolist()
        return {"loss": nll / labelled, "accuracy": hits / labelled}
