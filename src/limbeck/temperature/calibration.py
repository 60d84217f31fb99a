"""How well a teacher's own probabilities fit true labels, and whether it knows more than the labels' frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LOWEST, HIGHEST = math.exp(-3), math.exp(4)
"""The range in which ``calibrate`` looks for the temperature."""
NO_BETTER = 1e-6
"""The difference in NLL, in nats, that tells no temperature from another."""


@dataclass(frozen=True)
class Calibration:
    """How well the teacher's own probabilities fit true labels, before and after they are calibrated.

    Its temperature divides the logits that a model serves. It is not the temperature of distillation.
    """

    temperature: float
    """The T with the smallest NLL of true labels (Guo et al., "On Calibration of Modern Neural Networks", 2017). Above 1 the
    teacher is too sure of itself, below 1 it is not sure enough. See ``at_edge``."""
    error_before: float
    """The expected calibration error at T = 1: how far confidence and accuracy are apart, from 0 to 1."""
    error_after: float
    """The expected calibration error at ``temperature``."""
    nll_before: float
    """The mean negative log-likelihood of the true labels at T = 1, in nats."""
    nll_after: float
    """The mean negative log-likelihood of the true labels at ``temperature``, in nats."""
    at_edge: bool = False
    """True when ``temperature`` is an edge of the range that was searched, because no T inside it fits better. Then the
    labels do not determine a temperature, and ``remark`` says why."""
    examples: int = 0
    """The number of labelled examples."""
    accuracy: float = math.nan
    """The fraction of the examples whose label is the teacher's first class."""
    chance_accuracy: float = math.nan
    """The accuracy of always naming the most frequent label."""
    chance_nll: float = math.nan
    """The NLL of a model that knows the frequencies of the labels and nothing else, in nats: the entropy of the labels,
    corrected for the number of examples."""
    label_classes: int = 0
    """The number of classes that occur among the labels."""

    @property
    def remark(self) -> str:
        """Return what a reader must know of ``temperature``; "" when the labels determine it."""
        if not self.at_edge:
            return ""
        if not math.isfinite(self.nll_after):
            return (
                "No temperature calibrates the teacher: it gives a probability of 0 to the true label of some examples."
            )
        if self.temperature < 1:
            side, cause = "lowest", "the logits are very small, or the teacher makes no mistakes on these labels"
        else:
            side, cause = "highest", "the logits are far too large, or they say nothing about these labels"
        return f"T = {self.temperature:.3g} is the {side} that was tried, and no best one was found: {cause}."

    @property
    def against_chance(self) -> str:
        """Return how often the teacher is right, and how often a guess would be: the beginning of a sentence."""
        return (
            f"The teacher is right on {100 * self.accuracy:.1f} % of {self.examples} labelled examples, against "
            f"{100 * self.chance_accuracy:.1f} % for always naming the most frequent class"
        )

    @property
    def nothing_to_teach(self) -> str:
        """Return what a user must know of a teacher that is no better than chance; "" for any other one."""
        if self.better_than_chance is not False:
            return ""
        return (
            f"{self.against_chance}: it is no better than chance and has nothing to teach. Were its classes, its inputs "
            "and its weights the right ones?"
        )

    @property
    def better_than_chance(self) -> bool | None:
        """Return whether the teacher knows more than the frequencies of the labels; None when the labels cannot tell."""
        if self.label_classes < 2:
            return None
        n = self.examples
        by_accuracy = self.accuracy - self.chance_accuracy > 1.64 * math.sqrt(self.accuracy * (1 - self.accuracy) / n)
        # The entropy of K frequencies has a standard error of about sqrt((K - 1) / 2) / n.
        by_likelihood = n * (self.chance_nll - self.nll_after) > 3 + 2 * math.sqrt((self.label_classes - 1) / 2)
        return by_accuracy or by_likelihood


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Find the temperature that makes a classifier's probabilities fit true labels best, by their likelihood.

    Args:
        logits: (N, V); -inf for an absent class.
        labels: (N,) integers, none missing.

    Returns:
        The temperature, between exp(-3) and exp(4), with the calibration error and the NLL before and after. If no
        temperature in this range is best, it is an edge of the range, and ``at_edge`` says so.
    """
    from scipy.optimize import minimize_scalar

    from limbeck.tasks.metrics import classification_metrics

    labels = labels.long()

    def nll(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / temperature, labels).item()

    edges = {t: nll(t) for t in (HIGHEST, LOWEST)}
    edge = min(edges, key=lambda t: edges[t])
    temperature, at_edge = edge, True
    if math.isfinite(edges[edge]):
        found: Any = minimize_scalar(
            lambda log_temperature: nll(math.exp(log_temperature)),
            bounds=(math.log(LOWEST), math.log(HIGHEST)),
            method="bounded",
        )
        at_edge = edges[edge] - float(found.fun) <= NO_BETTER
        temperature = edge if at_edge else math.exp(float(found.x))
    else:
        temperature = 1.0
    before, after = classification_metrics(logits, labels), classification_metrics(logits / temperature, labels)
    frequencies = labels.unique(return_counts=True)[1].double() / len(labels)
    return Calibration(
        temperature=temperature,
        error_before=before.calibration_error,
        error_after=after.calibration_error,
        nll_before=before.nll,
        nll_after=after.nll,
        at_edge=at_edge,
        examples=len(labels),
        accuracy=before.accuracy,
        chance_accuracy=frequencies.max().item(),
        chance_nll=(-(frequencies * frequencies.log()).sum()).item() + (len(frequencies) - 1) / (2 * len(labels)),
        label_classes=len(frequencies),
    )
