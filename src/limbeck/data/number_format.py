"""How numbers of different units become outputs of one size, and back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers that a model returns are standardised: (number - mean) / std, each with its own."""

    mean: list[float]
    """The mean of each number over the labelled training examples."""
    std: list[float]
    """The standard deviation of each number over them."""

    def __call__(self, numbers: Tensor) -> Tensor:
        """Return standardised numbers.

        Args:
            numbers: (N, K), in the unit of the labels.
        """
        return (numbers - numbers.new_tensor(self.mean)) / numbers.new_tensor(self.std)

    def undo(self, outputs: Tensor) -> Tensor:
        """Return numbers in the unit of the labels.

        Args:
            outputs: (N, K), standardised, as a model returns them.
        """
        return outputs * outputs.new_tensor(self.std) + outputs.new_tensor(self.mean)
