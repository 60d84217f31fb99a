"""What is measured while training and evaluating: sums that add up over micro-batches, steps and processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from limbeck.kernels.call import GradientScales, LossCall, RowKernel
from limbeck.losses import LossParts, SparseTargets
from limbeck.tasks import Task


class TrainingMeter:
    """Means over the steps between two logs: both terms of the loss, the agreement with the teacher, the gradients' ratio."""

    def __init__(self) -> None:
        self._reset()

    def begin_step(self) -> None:
        """Count one step, however many micro-batches it has."""
        self._steps += 1

    def add(
        self,
        parts: LossParts,
        agreement: Tensor | None,
        mask: Tensor,
        num_items: Tensor | int | None,
    ) -> None:
        """Add one micro-batch.

        Args:
            parts: the micro-batch's contribution to its step's mean.
            agreement: (...,), how far both models agree at each position, between 0 and 1; None if their classes are others.
            mask: (...,) bool, True at the positions that count.
            num_items: the number of positions that count in the whole step; by default those of ``mask``.
        """
        counted = mask.sum() if num_items is None else torch.as_tensor(num_items, device=mask.device)
        agreed = torch.tensor(math.nan) if agreement is None else (agreement * mask).sum() / counted.clamp(min=1)
        terms = [torch.zeros_like(parts.total) if term is None else term for term in (parts.soft, parts.hard)]
        sums = torch.stack([*terms, agreed.to(parts.total)]).detach().float()
        self._sums = sums if self._sums is None else self._sums.add_(sums)

    def add_gradients(self, parts_for: Callable[[Tensor], LossParts], logits: Tensor, alpha: float) -> None:
        """Add the gradients of both weighted terms with respect to the logits. Does nothing if only one term counts.

        Args:
            parts_for: maps logits to the terms of the loss. It is called once more, on a copy, so that the training step's
                graph stays as it is.
            logits: (..., V), the student's.
            alpha: the weight of the soft term.
        """
        copy = logits.detach().requires_grad_()
        parts = parts_for(copy)
        if parts.soft is None or parts.hard is None or not 0 < alpha < 1:
            return
        (soft,) = torch.autograd.grad(parts.soft, copy, retain_graph=True)
        (hard,) = torch.autograd.grad(parts.hard, copy)
        self.add_squares(torch.stack([(alpha * soft).square().sum(), ((1 - alpha) * hard).square().sum()]))

    def add_squares(self, squares: Tensor | None) -> None:
        """Add the squared norms of the gradients of both weighted terms.

        Args:
            squares: (2,), of the soft and of the hard term; None for nothing.
        """
        if squares is not None:
            squares = squares.float()
            self._gradient_squares = squares if self._gradient_squares is None else self._gradient_squares + squares

    def means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means over the steps since the last call, and start again.

        Args:
            reduce: sums a tensor over all processes.

        Returns:
            ``soft_loss``, ``hard_loss`` and ``agreement``, and ``gradient_ratio`` if gradients were added; empty if nothing
            was added.
        """
        if self._sums is None:
            return {}
        soft, hard, agreement = (reduce(self._sums) / self._steps).tolist()
        means = {"soft_loss": soft, "hard_loss": hard}
        if not math.isnan(agreement):
            means["agreement"] = agreement
        if self._gradient_squares is not None:
            soft_square, hard_square = reduce(self._gradient_squares).tolist()
            if hard_square > 0:
                means["gradient_ratio"] = (soft_square / hard_square) ** 0.5
        self._reset()
        return means

    def _reset(self) -> None:
        self._sums: Tensor | None = None  # soft loss, hard loss, agreement: each micro-batch's part of its step's mean
        self._gradient_squares: Tensor | None = None  # squared norms of the soft and the hard gradient
        self._steps = 0


class RowMeter:
    """What the training meter needs, measured on logits that exist for some rows at a time.

    Args:
        task: compares the decisions of both models.
        targets: the teacher's, of the rows that count in their order, if it is known by a few classes; else None.
        with_gradients: whether to measure the gradients of both terms.
    """

    def __init__(self, task: Task, targets: SparseTargets | None, *, with_gradients: bool) -> None:
        self._task, self._targets, self._with_gradients = task, targets, with_gradients
        self._agreements: list[Tensor] = []
        self._rows = 0
        self.squares: Tensor | None = None
        """(2,), the squared norms of the gradients of the soft and the hard term with respect to the logits, both weighted."""

    def watching(self, kernel: RowKernel) -> RowKernel:
        """Return a row kernel that measures, and then does what another one does.

        Args:
            kernel: the other one.
        """

        def watched(
            student: Tensor, teacher: Tensor | None, call: LossCall, scales: GradientScales, gradient: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            rows, self._rows = slice(self._rows, self._rows + len(student)), self._rows + len(student)
            known = teacher if self._targets is None else self._targets.apply(lambda values: values[rows])
            assert known is not None
            self._agreements.append(self._task.agreement(student, known))
            if self._with_gradients:
                own, of_terms = torch.empty_like(student), []
                soft, hard = call.gradient_scales()
                for only in ((soft, 0.0), (0.0, hard)):
                    kernel(student, teacher, call, only, own)
                    of_terms.append(own.square().sum())
                squares = torch.stack(of_terms)
                self.squares = squares if self.squares is None else self.squares + squares
            return kernel(student, teacher, call, scales, gradient)

        return watched

    def agreement(self, mask: Tensor) -> Tensor:
        """Return how far both models agree at each position: (...,), 0 where a position does not count.

        Args:
            mask: (...,) bool, True at the positions that count.
        """
        agreement = torch.zeros(mask.shape, device=mask.device)
        return agreement.masked_scatter_(mask, torch.cat(self._agreements)) if self._agreements else agreement


def logs_after_step(args: Any, state: Any) -> bool:
    """Return True if the Trainer logs at the end of the step that is running.

    The Trainer itself decides after the step; the gradients must be measured within it.

    Args:
        args: the run's ``TrainingArguments``.
        state: its ``TrainerState``; ``global_step`` counts the finished steps.
    """
    step, strategy = state.global_step + 1, args.logging_strategy
    if args.logging_first_step and step == 1:
        return True
    if strategy == "steps":
        return step % max(1, int(state.logging_steps or 0)) == 0
    if strategy == "epoch":
        epoch = state.max_steps / max(1, state.num_train_epochs)
        return math.floor(step / epoch) > math.floor((step - 1) / epoch)
    return False


class EvaluationMeter:
    """A task's metrics at T = 1, as exact means over all labelled positions of an evaluation set."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all examples, before another evaluation."""
        self._task: Task | None = None
        self._names: list[str] = []
        self._sums: Tensor | None = None

    def sums_per_example(self, task: Task, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the number of labelled positions of each example, its sum of each of the task's scores, and its counts.

        Args:
            task: measures; its first score is the loss.
            logits: (N, ..., V), aligned.
            labels: as in the task's ``Targets``.

        Returns:
            (N, 1 + scores + counts).
        """
        self._task = task
        self._names, sums = task.sums(logits, labels)
        return sums

    def add(self, examples: Tensor) -> None:
        """Add examples.

        Args:
            examples: (N, 1 + scores + counts), from ``sums_per_example``.
        """
        sums = examples.cpu().double().sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self) -> dict[str, float]:
        """Return the mean of each score per labelled position, and what the counts tell; empty if no position has a label."""
        if self._sums is None or self._task is None or self._sums[0] == 0:
            return {}
        return {name: value.item() for name, value in self._task.metrics_of_sums(self._names, self._sums).items()}
