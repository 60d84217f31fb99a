"""What a student returns, looked at once in a run: does the loss reach all of it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limbeck.errors import ArgumentError


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
