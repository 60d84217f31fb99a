"""Outputs that are numbers: regression, and embeddings. Nothing is a probability, so nothing has a temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX, SparseTargets
from limbeck.losses.checks import is_cheap_to_read
from limbeck.losses.distance import is_known
from limbeck.models import first_input
from limbeck.tasks.base import Targets, Task

COMPARED_WITH = 1000
"""The most examples with which each example's similarities are ranked."""


class Regression(Task):
    """One or more numbers for each example: outputs (N, K) meet labels (N, K), or (N,) where there is one.

    An example with a NaN among its labels has none. It counts all the same, and learns from the teacher alone. A boolean
    ``mask`` (N,) in the batch overrides this.
    """

    name: ClassVar[str] = "regression"
    no_label: ClassVar[float] = math.nan
    family: ClassVar[str] = "distance"
    problem_type: ClassVar[str | None] = "regression"
    score: ClassVar[str] = "r2"
    likeness: ClassVar[str] = "r2_of_teacher"
    columns: ClassVar[Mapping[str, str]] = {
        "r2": "R²",
        "mae": "MAE",
        "rmse": "RMSE",
        "r2_of_teacher": "R² of teacher's",
    }

    def align(self, logits: Tensor) -> Tensor:
        """Return the outputs with one axis for the examples and one for the numbers of each.

        Args:
            logits: (N, K), or (N,) for one number.
        """
        return logits.unsqueeze(-1) if logits.dim() == 1 else logits

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels as (N, K), and the examples that count.

        Raises:
            ArgumentError: integer labels have -100, which may stand for no label or for that number.
        """
        labels, mask = batch.get("labels"), batch.get("mask")
        if labels is not None:
            if not labels.is_floating_point():
                if is_cheap_to_read(labels) and bool((labels == IGNORE_INDEX).any()):
                    raise ArgumentError(
                        "labels",
                        f"integers with {IGNORE_INDEX}. In task={self.name!r} a label that is not known is NaN: convert the "
                        "labels to floats.",
                    )
                labels = labels.float()
            labels = self.align(labels)
        if mask is None:
            example = first_input(batch) if labels is None else labels
            mask = torch.ones(len(example), dtype=torch.bool, device=example.device)
        return Targets(labels, mask)

    def labelled(self, labels: Tensor) -> Tensor:
        """Return a bool tensor (...,), True where all numbers are known."""
        return is_known(labels)

    def check_logits(self, logits: Tensor) -> None:
        """Accept any number of outputs."""

    def decide(self, logits: Tensor) -> Tensor:
        """Return the outputs themselves."""
        return logits

    def agreement(self, student: Tensor, teacher: Tensor | SparseTargets) -> Tensor:
        """Return what each example adds to the student's R² if the teacher's numbers are the truth: (...,)."""
        assert isinstance(teacher, Tensor), "the loss has refused sparse targets"
        return r2_values(student, teacher)

    def scores(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the mean squared and the mean absolute error of each example, over its outputs."""
        known = self.labelled(labels)
        errors = (logits - labels).masked_fill(~known.unsqueeze(-1), 0.0)
        return {"loss": errors.square().mean(-1), "mae": errors.abs().mean(-1)}

    def values(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what each example adds to R², whose mean over the labelled examples of a set R² is."""
        known = self.labelled(labels)
        values = logits.new_zeros(known.shape, dtype=torch.float64)
        values[known] = r2_values(logits[known], labels[known])
        return values

    def counts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return for each example 1, and for each output the label, its square and the squared error; 0 without a label."""
        dtype = torch.float64 if logits.device.type != "mps" else torch.float32  # where there are no doubles
        known = self.labelled(labels).unsqueeze(-1)
        truth = labels.to(dtype).masked_fill(~known, 0.0)
        errors = (logits.to(dtype) - truth).masked_fill(~known, 0.0)
        return torch.cat([known.to(dtype), truth, truth.square(), errors.square()], -1)

    def metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return R² and the root of the mean squared error of a whole set, as means over outputs."""
        examples, (truth, squares, errors) = counts[0], counts[1:].view(3, -1)
        spread = (squares - truth.square() / examples).clamp(min=0)
        return {"r2": _one_minus(errors, spread).mean(), "rmse": (errors / examples).sqrt().mean()}

    def metrics(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> dict[str, float]:
        """Return the metrics of a whole data set, over its labelled examples.

        Args:
            logits: (N, K).
            labels: (N, K).
            teacher_logits: the teacher's, for ``r2_of_teacher``; None leaves it out.

        Returns:
            ``r2``, ``mae`` and ``rmse`` in the unit of the labels, each the mean over outputs; and ``r2_of_teacher``: R² if the
            teacher's numbers were the truth.

        Raises:
            ArgumentError: no example has a label, or there is not one for each output.
        """
        known = self.labelled(labels)
        if logits.shape != labels.shape or not bool(known.any()):
            raise ArgumentError(
                "labels", f"expected some for outputs of shape {tuple(logits.shape)}, got shape {tuple(labels.shape)}."
            )
        logits, labels = logits[known].double(), labels[known].double()
        errors = logits - labels
        metrics = {
            "r2": r2_values(logits, labels).mean().item(),
            "mae": errors.abs().mean().item(),
            "rmse": errors.square().mean(0).sqrt().mean().item(),
        }
        if teacher_logits is not None:
            metrics[self.likeness] = r2_values(logits, teacher_logits[known].double()).mean().item()
        return metrics

    def tell(self, logits: Tensor, names: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return what one row of outputs says: the number, or each one with its name; and the numbers by name."""
        numbers = dict(zip(names, logits.tolist(), strict=True))
        if len(numbers) == 1:
            return f"{logits.item():.6g}", numbers
        return ", ".join(f"{name} {value:.6g}" for name, value in numbers.items()), numbers


class Embeddings(Regression):
    """An embedding for each example: outputs (N, D), without labels. The student learns the teacher's.

    Where the student's embeddings have another width, the trainer learns a linear map to the teacher's width with it, which is
    dropped in the end. ``labels`` (N, D) in an evaluation set are embeddings that a teacher gave before.
    """

    name: ClassVar[str] = "embeddings"
    family: ClassVar[str] = "embedding"
    problem_type: ClassVar[str | None] = None
    has_labels: ClassVar[bool] = False
    score: ClassVar[str] = "rank_correlation"
    likeness: ClassVar[str] = "rank_correlation"
    columns: ClassVar[Mapping[str, str]] = {
        "rank_correlation": "rank correlation of similarities",
        "cosine": "cosine to teacher's",
    }

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels, if it has embeddings as labels, and the examples that count."""
        targets = super().targets(batch)
        has_none = targets.labels is None or not targets.labels.shape[-1]
        return Targets(None, targets.mask) if has_none else targets

    def agreement(self, student: Tensor, teacher: Tensor | SparseTargets) -> Tensor:
        """Return the cosine of each example's two embeddings: (...,)."""
        assert isinstance(teacher, Tensor), "the loss has refused sparse targets"
        return cosine_similarity(student.float(), teacher.float(), -1)

    def scores(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error of each example over its outputs, and its cosine.

        Raises:
            ArgumentError: the embeddings that are given as labels have another width.
        """
        if logits.shape != labels.shape:
            raise ArgumentError(
                "labels",
                f"shape {tuple(labels.shape)}, and the student's embeddings have {tuple(logits.shape)}. Labels of embeddings "
                "are those that a teacher of the same width gave. Leave them out otherwise.",
            )
        cosine = self.agreement(logits, labels).masked_fill(~self.labelled(labels), 0.0)
        return {"loss": super().scores(logits, labels)["loss"], "cosine": cosine}

    def values(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return for each example how alike it ranks the others by similarity in both spaces, from -1 to 1."""
        known = self.labelled(labels)
        values = logits.new_zeros(known.shape, dtype=torch.float64)
        values[known] = rank_correlations(logits[known], labels[known])
        return values

    def counts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return nothing: the metrics of the trainer's evaluation are means over examples."""
        return labels.new_zeros(len(labels), 0)

    def metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return no metrics."""
        return {}

    def metrics(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> dict[str, float]:
        """Return how alike a student's embeddings are to the teacher's, over a whole data set.

        Args:
            logits: (N, D).
            labels: (N, E), the teacher's.
            teacher_logits: not read.

        Returns:
            ``rank_correlation``: Spearman's correlation between the cosine similarities of an example to the others in both
            spaces, as the mean over examples; and, if the widths are the same, ``cosine``: the mean cosine of an example's two
            embeddings.
        """
        known = self.labelled(labels)
        metrics = {self.score: rank_correlations(logits[known], labels[known]).mean().item()}
        if logits.shape == labels.shape:
            metrics["cosine"] = self.agreement(logits[known], labels[known]).double().mean().item()
        return metrics

    def tell(self, logits: Tensor, names: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return how many numbers an embedding has, and the numbers by their place."""
        return f"{len(logits)} numbers", {str(i): value for i, value in enumerate(logits.tolist())}


def r2_values(outputs: Tensor, truth: Tensor) -> Tensor:
    """Return what each example adds to R²: (...,), 1 - (squared error) / variance, as the mean over outputs.

    Args:
        outputs: (..., K).
        truth: (..., K). The variance is theirs. Where it is 0, an example has 1 if it is met exactly and 0 if not.

    Returns:
        float64 values, whose mean is R² as scikit-learn defines it.
    """
    outputs, truth = outputs.double().flatten(0, -2), truth.double().flatten(0, -2)
    errors = (outputs - truth).square()
    return _one_minus(errors, truth.var(0, correction=0).expand_as(errors)).mean(-1)


def _one_minus(errors: Tensor, spread: Tensor) -> Tensor:
    """Return 1 - errors / spread; without a spread 1 if there is no error, else 0."""
    return torch.where(spread > 0, 1 - errors / spread.where(spread > 0, 1.0), (errors == 0).to(errors.dtype))


def rank_correlations(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Spearman's correlation of each example's similarities to the others between two spaces of embeddings.

    Args:
        student: (N, D).
        teacher: (N, E). The widths may differ.

    Returns:
        (N,) float64; NaN where the similarities are all the same. An example is compared with the first 1,000 of a set.
    """
    from scipy.stats import rankdata

    count = len(student)
    columns = torch.arange(min(count, COMPARED_WITH))
    others = columns != torch.arange(count).unsqueeze(-1)  # an example's similarity to itself says nothing
    ranks = []
    for embeddings in (student, teacher):
        unit = normalize(embeddings.double().cpu(), dim=-1)
        similarities = (unit @ unit[columns].T).masked_fill(~others, -torch.inf)
        ranked = torch.from_numpy(rankdata(similarities.numpy(), axis=1)).where(others, torch.nan)
        ranks.append((ranked - ranked.nanmean(-1, keepdim=True)).nan_to_num(0.0))
    return cosine_similarity(ranks[0], ranks[1], -1, eps=0.0)
