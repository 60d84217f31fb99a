"""Models that give probabilities, as those that end in a softmax do: their logarithms serve as logits."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.losses.inspection import are_probabilities
from limbeck.models.forward import class_axis, only_logits_of

Family = Literal["softmax", "sigmoid"]
"""Whether the probabilities are those of one class out of all, or of each class by itself."""


def logits_of_probabilities(probabilities: Tensor, family: Family = "softmax") -> Tensor:
    """Return logits whose softmax, or whose sigmoid, is the given probabilities.

    For a softmax these are the logarithms. A probability of 0 becomes -inf, and is 0 at every temperature. Nothing is clipped:
    forward KL, JSD, skew KL and total variation are finite there; reverse KL and logit MSE are infinite, and need a teacher
    without zeros.

    For a sigmoid they are log p - log(1 - p). A probability of 0 or 1 becomes the nearest number of its type that is neither.

    Args:
        probabilities: (..., V), each row in [0, 1] with the sum 1; or (N, C, H, W), with a row for each pixel. For a sigmoid
            any sum.
        family: "softmax" or "sigmoid".

    Returns:
        The same shape, in float32 or float64.

    Raises:
        ArgumentError: a value is outside [0, 1], or a row has another sum.

    Example:
        >>> logits_of_probabilities(torch.tensor([0.25, 0.75])).softmax(-1)
        tensor([0.2500, 0.7500])
        >>> logits_of_probabilities(torch.tensor([0.25, 0.5]), "sigmoid").sigmoid()
        tensor([0.2500, 0.5000])
    """
    if family == "sigmoid":
        return _logits_of_each(probabilities)
    axis = class_axis(probabilities)
    if probabilities.numel() and not are_probabilities(probabilities.movedim(axis, -1)):
        sums = probabilities.sum(axis, dtype=torch.float64)
        raise ArgumentError(
            "probabilities",
            f"expected rows in [0, 1] that sum to 1, got values from {probabilities.min().item():.4g} to "
            f"{probabilities.max().item():.4g}, and rows that sum to {sums.min().item():.4g} up to {sums.max().item():.4g}. "
            "If these are logits, say so: they are the default.",
        )
    return probabilities.to(torch.promote_types(probabilities.dtype, torch.float32)).log()


def _logits_of_each(probabilities: Tensor) -> Tensor:
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ArgumentError(
            "probabilities",
            f"expected numbers in [0, 1], got values from {probabilities.min().item():.4g} to "
            f"{probabilities.max().item():.4g}. If these are logits, say so: they are the default.",
        )
    numbers = torch.finfo(probabilities.dtype)
    exact = probabilities.clamp(numbers.tiny, 1 - numbers.eps / 2)
    return exact.to(torch.promote_types(exact.dtype, torch.float32)).logit()


class LogProbabilities(nn.Module):
    """A model that gives logits, made from one that gives probabilities.

    Args:
        model: a module whose output has probabilities in the place of logits.
        family: "softmax" for one class out of all; "sigmoid" for several labels at once.

    Example:
        >>> model = LogProbabilities(torch.nn.Softmax(-1))
        >>> model(torch.tensor([[1.0, 1.0]])).softmax(-1)
        tensor([[0.5000, 0.5000]])
    """

    def __init__(self, model: nn.Module, family: Family = "softmax") -> None:
        super().__init__()
        self.model = model
        self.family: Family = family
        self.train(model.training)

    def get_base_model(self) -> nn.Module:
        """Return the model inside, whose ``forward`` says what this one takes."""
        return self.model

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        return logits_of_probabilities(only_logits_of(self.model(*inputs, **named), self.model), self.family)
