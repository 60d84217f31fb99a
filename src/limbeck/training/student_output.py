"""What the models return, looked at once in a run: does the loss reach all of the student, and does the teacher give logits?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.losses import SparseTargets
from limbeck.losses.inspection import are_probabilities
from limbeck.tasks import Targets


def check_dtype(student: nn.Module, device: torch.device) -> None:
    """Check that a student can be trained in the dtype of its weights.

    Args:
        student: the model that is trained.
        device: where it is trained.

    Raises:
        ArgumentError: its weights are float16, and it is trained on a CPU.
    """
    if device.type == "cpu" and any(p.requires_grad and p.dtype == torch.float16 for p in student.parameters()):
        raise ArgumentError(
            "model",
            "the student's weights are float16, in which small gradients become 0 and a CPU is slow. Call model.float() first.",
        )


def check_first_batch(
    output: Any, logits: Tensor, teacher: Tensor | SparseTargets | None, targets: Targets, columns: int
) -> None:
    """Check the first batch of a training: what both models returned, and the labels.

    Args:
        output: what the student returned.
        logits: the logits in it, with their graph.
        teacher: the teacher's logits or sparse targets at the positions that have a target; None for no teacher.
        targets: the labels, and the positions that count.
        columns: how many classes the student's logits have.

    Raises:
        ArgumentError: there is one fault.
        ModelError: there are several faults; one line for each.
    """
    faults: list[ArgumentError] = []
    try:
        check_student_output(output, logits)
    except ArgumentError as error:
        faults.append(error)
    if isinstance(teacher, Tensor) and teacher.numel() and teacher.shape[-1] > 1 and are_probabilities(teacher):
        faults.append(
            ArgumentError(
                "teacher",
                "every row that it returned lies in [0, 1] and sums to 1: these are probabilities, and the losses take logits. "
                "Where it returns TeacherOutput(logits=...), write TeacherOutput(probabilities=...) in its place. Where it "
                "returns a tensor, set teacher_outputs='probabilities' in the arguments.",
            )
        )
    if isinstance(teacher, Tensor) and teacher.shape[-1] < columns:
        faults.append(
            ArgumentError(
                "teacher",
                f"it gives {teacher.shape[-1]} classes, and the student has {columns}. If it knows only some of them, pass a "
                "function that puts each of its columns in the place of its class, as for an estimator of scikit-learn: "
                f"p = numpy.zeros((len(x), {columns})); p[:, estimator.classes_] = estimator.predict_proba(x); return "
                "TeacherOutput(probabilities=torch.from_numpy(p)).",
            )
        )
    labels = targets.labels
    one_each = labels is not None and labels.shape == targets.mask.shape and not labels.is_floating_point()
    if labels is not None and one_each and bool(((labels >= columns) & targets.mask).any()):
        faults.append(
            ArgumentError(
                "train_dataset",
                f"it has the label {int(labels[targets.mask].max())}, and the student has {columns} output columns, for labels "
                f"from 0 to {columns - 1}.",
            )
        )
    if len(faults) > 1:
        raise ModelError(*map(str, faults))
    if faults:
        raise faults[0]


def check_student_output(output: Any, logits: Tensor) -> None:
    """Check that the loss reaches all weights behind the output.

    Args:
        output: what the student returned.
        logits: the logits in it, with their graph.

    Raises:
        ArgumentError: a second output has weights that the loss does not reach.
    """
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    others = [part for part in parts if isinstance(part, Tensor) and part.requires_grad and part is not logits]
    if not others or not logits.requires_grad:
        return
    untrained = len(_weights_behind(others) - _weights_behind([logits]))
    if untrained:
        raise ArgumentError(
            "model",
            f"the student returns {len(others) + 1} outputs that are trained, and the loss takes the logits alone: {untrained} "
            "weights behind the others would never change. Return the logits alone, or freeze "
            "those weights.",
        )


def _weights_behind(tensors: list[Tensor]) -> set[int]:
    """Return the ids of the parameters in the graphs of some tensors."""
    ahead: list[Any] = [tensor.grad_fn for tensor in tensors]
    seen: set[Any] = set()
    weights: set[int] = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            weights.add(id(node.variable))
        ahead += [following for following, _ in node.next_functions]
    return weights
