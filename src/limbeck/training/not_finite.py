"""A run that has become NaN or infinite: what to say about it, while the last good weights still exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import TrainingError
from limbeck.losses import SparseTargets


def error_about_loss(
    step: int, batch: Mapping[str, Any], student: Tensor, teacher: Tensor | SparseTargets | None
) -> TrainingError:
    """Return the error that says in which step and by which examples a loss ceased to be finite.

    Args:
        step: the number of the step, from 1.
        batch: the batch; its ``example_id`` names the examples, and without it their places in the batch do.
        student: (N, ...), the student's logits for the batch.
        teacher: (N, ...), the teacher's logits or sparse targets; None for training on labels alone.
    """
    words = teacher.log_probs if isinstance(teacher, SparseTargets) else teacher
    for who, logits in (("teacher", words), ("student", student)):
        rows = [] if logits is None else _broken_rows(logits)
        if rows:
            return _error(step, f"the {who}'s logits are NaN or infinite for {_names(rows, batch)}", who)
    examples = _names(list(range(len(student))), batch)
    if isinstance(teacher, Tensor) and bool(teacher.isneginf().any()):
        return _error(
            step, f"the loss is infinite for {examples}, and the teacher gives classes the probability 0", "zeros"
        )
    return _error(step, f"the loss is NaN or infinite for {examples}", "student")


def check_weights(step: int, model: nn.Module) -> None:
    """Check that the weights of a student are finite, before they are saved over good ones.

    Args:
        step: the number of finished steps.
        model: the student.

    Raises:
        TrainingError: a weight is NaN or infinite.
    """
    floating = {
        name: weight for name, weight in model.named_parameters() if weight.is_floating_point() and weight.numel()
    }
    if not floating:
        return
    finite = torch.stack([weight.detach().isfinite().all().cpu() for weight in floating.values()])
    if not bool(finite.all()):
        broken = [name for name, fine in zip(floating, finite.tolist(), strict=True) if not fine]
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise _error(step, f"the student's weights are NaN or infinite ({broken[0]}{more})", "student")


def _error(step: int, what: str, who: str) -> TrainingError:
    remedy = {
        "teacher": "Look at these examples, or run the teacher in float32 or bfloat16 (teacher_dtype).",
        "zeros": "Reverse KL and logit MSE are infinite there. Take forward_kl, jsd or tvd, or a teacher without zeros.",
        "student": "Lower learning_rate, set max_grad_norm, or train in float32 or bfloat16.",
    }[who]
    return TrainingError(f"step {step}: {what}. The run stops here, and earlier checkpoints are untouched. {remedy}")


def _broken_rows(logits: Tensor) -> list[int]:
    """Return the rows with a NaN, with +inf, or with nothing but -inf. A class with -inf is absent, and that is no fault."""
    rows = logits.detach().flatten(1) if logits.dim() > 1 else logits.detach().unsqueeze(-1)
    absent = (logits.detach() == -torch.inf).all(-1)
    bad = (rows.isnan() | (rows == torch.inf)).any(-1) | (absent.flatten(1).any(-1) if absent.dim() > 1 else absent)
    return bad.nonzero().flatten().tolist()


def _names(rows: list[int], batch: Mapping[str, Any]) -> str:
    ids = batch.get("example_id")
    kind = "the rows of its batch" if ids is None else "example_id"
    named = rows if ids is None else [int(ids[row]) for row in rows]
    shown = ", ".join(map(str, named[:8])) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
    return f"{kind} {shown}"
