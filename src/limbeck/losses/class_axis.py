"""Logits whose classes are not in the last dimension, such as the (N, C, H, W) of segmentation models."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from limbeck.errors import ArgumentError, ArgumentTypeError


def check_class_dim(class_dim: Any) -> int:
    """Return the number of a dimension, after checking its type.

    Args:
        class_dim: what was given.

    Returns:
        The same.

    Raises:
        ArgumentTypeError: not an integer.
    """
    if isinstance(class_dim, bool) or not isinstance(class_dim, int):
        raise ArgumentTypeError(
            "class_dim", f"expected the number of a dimension, as in class_dim=1, got {class_dim!r}."
        )
    return class_dim


def classes_last(name: str, logits: Any, class_dim: int) -> Any:
    """Return a view of the logits with the classes in the last dimension.

    Args:
        name: of the argument.
        logits: what was given; what is no tensor is returned as it is, for the checks of logits to refuse.
        class_dim: the dimension of the classes.

    Returns:
        (..., V), a view that shares the memory of the logits.

    Raises:
        ArgumentTypeError: ``class_dim`` is not an integer.
        ArgumentError: the logits have no such dimension.
    """
    if check_class_dim(class_dim) == -1 or not isinstance(logits, Tensor):
        return logits
    if not -logits.dim() <= class_dim < logits.dim():
        raise ArgumentError("class_dim", f"{class_dim}, but {name} has shape {tuple(logits.shape)}.")
    return logits.movedim(class_dim, -1)


def labels_last(labels: Any, logits: Any, class_dim: int) -> Any:
    """Return label rows, whose form is that of the logits, with the classes in the last dimension.

    Args:
        labels: what was given; what is no rows is returned as it is.
        logits: as they were given.
        class_dim: the dimension of the classes.

    Returns:
        A view of the labels.
    """
    if not (isinstance(labels, Tensor) and labels.is_floating_point() and labels.shape == logits.shape):
        return labels
    return classes_last("labels", labels, class_dim)


def shape_as_given(logits: Tensor, class_dim: int | None) -> tuple[int, ...]:
    """Return the shape that logits had before ``classes_last``.

    Args:
        logits: (..., V).
        class_dim: the dimension of the classes; None where it is always the last.

    Returns:
        The shape with V in that dimension.
    """
    *positions, classes = logits.shape
    place = -1 if class_dim is None else class_dim
    positions.insert(place % logits.dim(), classes)
    return tuple(positions)


def dimension_that_fits(shape: tuple[int, ...], positions: tuple[int, ...]) -> int | None:
    """Return the dimension that holds the classes if the other dimensions are those of the positions.

    Args:
        shape: of logits.
        positions: the shape of labels or of a mask.

    Returns:
        The first such dimension, the first of all last, because a batch is usually there; None if there is none, or if the
        logits have fewer than three dimensions: then one of the shapes is wrong more probably.
    """
    if len(shape) < 3:
        return None
    return next((d for d in (*range(1, len(shape)), 0) if shape[:d] + shape[d + 1 :] == positions), None)
