"""What all teachers have in common: they turn a batch into targets. The objective does not know where these come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from limbeck.losses import SparseTargets
from limbeck.losses.projection import Unprojected
from limbeck.models import logits_of_probabilities


@dataclass(frozen=True)
class TeacherOutput:
    """The teacher's predictions for one batch. Either ``logits`` or ``targets`` is set.

    Raises:
        ArgumentError: ``probabilities`` are not in [0, 1], or their rows do not sum to 1.

    Example:
        >>> TeacherOutput(probabilities=torch.tensor([[0.25, 0.75]])).logits.softmax(-1)
        tensor([[0.2500, 0.7500]])
    """

    logits: Tensor | None = None
    """(N, V), (N, L, V) for sequences, or (N, C, H, W) for pixels. They are raw: not divided by a temperature."""
    targets: SparseTargets | None = None
    """A few classes of each position, in place of the logits. Positions are those that the logits would have."""
    probabilities: InitVar[Tensor | None] = None
    """Probabilities, in place of the logits, which become their logarithms. A probability of 0 becomes -inf."""

    def __post_init__(self, probabilities: Tensor | None) -> None:
        if probabilities is not None:
            object.__setattr__(self, "logits", logits_of_probabilities(torch.as_tensor(probabilities)))


class Teacher(ABC):
    """The base class of teachers. A subclass implements ``__call__``, and overrides the rest where it needs to.

    Example:
        >>> import torch
        >>> from limbeck.teachers import Teacher, TeacherOutput
        >>> class Uniform(Teacher):
        ...     def __call__(self, batch):
        ...         return TeacherOutput(torch.zeros(len(batch["labels"]), 10))
        >>> Uniform()({"labels": torch.tensor([3, 1])}).logits.shape
        torch.Size([2, 10])
    """

    single_view: bool = False
    """True if the teacher knows one view of each example, so that its inputs must not be augmented."""
    models: Sequence[nn.Module] = ()
    """The modules that the teacher runs. They must not share parameters with the student."""
    columns: Collection[str] | None = None
    """The entries of a batch that the teacher reads, beside labels and ids. None if that is not known: a data set then keeps
    all its columns but those of text."""

    @abstractmethod
    def __call__(self, batch: Mapping[str, Any]) -> TeacherOutput:
        """Return the teacher's predictions for a batch.

        Args:
            batch: the student's batch, after augmentation: tensors by name, on the training device.

        Returns:
            The raw logits or the sparse targets of every position in the batch.
        """

    def unprojected(self, batch: Mapping[str, Any]) -> Unprojected | None:
        """Return the teacher's logits for a batch, not computed: hidden states, and the layer that makes logits of them.

        Args:
            batch: as in ``__call__``.

        Returns:
            What ``__call__`` computes its logits from; None, as here, if it has them in another way.
        """
        return None

    def to(self, device: torch.device) -> Self:
        """Prepare for batches on ``device`` and return the teacher. The trainer calls this once, before training.

        Args:
            device: the training device.

        Returns:
            The teacher that the trainer then uses; here ``self``, unchanged.
        """
        return self

    def at_temperature(self, temperature: float | None) -> Self:
        """Prepare for a loss at this temperature and return the teacher. The trainer calls this before training.

        Raw logits do not depend on T, so most teachers have nothing to do.

        Args:
            temperature: the T by which the loss divides the teacher's logits; None if it changes while training.

        Returns:
            The teacher that the trainer then uses; here ``self``, unchanged.

        Raises:
            ArgumentError: the teacher was made for another temperature.
        """
        return self
