"""What every task answers. What is not overridden here belongs to one choice among classes, by a softmax."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from limbeck.errors import ArgumentError
from limbeck.losses import FAMILIES, IGNORE_INDEX, DistanceLoss, SparseTargets, distillation_loss
from limbeck.losses.labels import as_int64, is_rows, labelled_positions, most_likely_classes
from limbeck.tasks.metrics import CLASS_COLUMNS, classification_metrics


@dataclass(frozen=True)
class Targets:
    """The labels of a batch and the positions that count. Both have the shape of the aligned logits without their last axis."""

    labels: Tensor | None
    """Integers, -100 at a position without a label; None if the batch has no labels. A task may have labels of another form.

    Those of one choice among classes may be the probability of each class, (..., V).
    """
    mask: Tensor
    """bool, True at the positions that count."""


class Task(ABC):
    """The base class of tasks: how a model's outputs meet the targets of a batch.

    A subclass implements ``targets``. The other methods are those of one choice among classes at each position; a subclass
    overrides what is different. "Aligned logits" are what ``align`` returned: (..., V) for positions of shape (...).

    Example:
        >>> import torch
        >>> class SecondHalf(Task):
        ...     def targets(self, batch):
        ...         labels = batch["labels"]
        ...         return Targets(labels, torch.arange(labels.shape[1]).expand_as(labels) >= labels.shape[1] // 2)
        >>> SecondHalf().targets({"labels": torch.tensor([[3, 1, 4, 1]])}).mask
        tensor([[False, False,  True,  True]])
    """

    name: ClassVar[str] = ""
    """The name in arguments and configs, which is also the key in ``TASKS``."""
    family: ClassVar[str] = "softmax"
    """The loss that fits the outputs, a key of ``limbeck.losses.FAMILIES``."""
    problem_type: ClassVar[str | None] = None
    """The ``problem_type`` in the config of a classifier of Transformers that has this task; None if there is none."""
    unit: ClassVar[str] = "example"
    """What has a label of its own: "example"; or else what an example has several of, such as "pixel" or "word"."""
    head: ClassVar[str | None] = None
    """The class of Transformers that builds a model with the head for this task, such as "AutoModelForTokenClassification";
    None for a classifier of images or texts."""
    score: ClassVar[str] = "accuracy"
    """The metric that choices are made by; higher is better. It is one of ``metrics``."""
    likeness: ClassVar[str] = "agreement"
    """The metric of how alike the student and the teacher are: the mean of ``agreement`` over a set."""
    has_labels: ClassVar[bool] = True
    """Whether data can have labels. If not, what a student should return is what the teacher returned."""
    no_label: ClassVar[float] = IGNORE_INDEX
    """What stands in ``Targets.labels`` at a position without a label."""
    where_labels_come_from: ClassVar[str] = "Name their column with label_names=['...'] in the arguments"
    """What to do where a batch has no labels: the beginning of a sentence."""
    columns: ClassVar[Mapping[str, str]] = CLASS_COLUMNS
    """The header of each metric in a table. A header that ends in ", %" is shown in percent."""

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True if a model of Transformers has this task.

        Args:
            name: the name of the model's class, such as "BertForSequenceClassification".
            has_encoder_and_decoder: whether the model's config says so.
        """
        return False

    def fit(self, logits: Tensor, batch: Mapping[str, Any], whose: str) -> Tensor:
        """Return logits of the resolution that the batch's labels have; here as they are.

        Args:
            logits: what a model returned.
            batch: the batch that it was called with.
            whose: "student" or "teacher", for messages.
        """
        return logits

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits that have a target, with the classes in the last axis; here all of them.

        Args:
            logits: what a model returned, (N, V) or (N, L, V). Other tensors with the same first axes are aligned alike.
        """
        return logits

    def align_targets(self, targets: SparseTargets) -> SparseTargets:
        """Return sparse targets of the positions that have a target, aligned as ``align`` aligns logits.

        Args:
            targets: of (N,), (N, L) or (N, H, W) positions, with the classes last.
        """
        return targets.apply(self.align)

    def complete(self, batch: dict[str, Any], models: Sequence[nn.Module]) -> dict[str, Any]:
        """Return a batch with the inputs that follow from its labels; here the batch as it is.

        Args:
            batch: tensors by name.
            models: the student, and then the models of its teacher. All of them are called with what is returned.
        """
        return batch

    @abstractmethod
    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the labels that the aligned logits should meet, and the positions that count.

        Args:
            batch: tensors by name: the inputs, and ``labels`` and ``mask`` where the data has them.
        """

    def labelled(self, labels: Tensor) -> Tensor:
        """Return a bool tensor (...,), True at the positions that have a label.

        Args:
            labels: as in ``Targets``.
        """
        return labelled_positions(labels, None, IGNORE_INDEX)

    def counted_labels(self, targets: Targets) -> Tensor | None:
        """Return the labels with none at the positions that do not count; None if there are no labels.

        Args:
            targets: the labels, and the positions that count.
        """
        labels, mask = targets.labels, targets.mask
        if labels is None:
            return None
        labels = labels if is_rows(labels) else as_int64(labels)
        return labels.masked_fill(~mask.view(*mask.shape, *[1] * (labels.dim() - mask.dim())), self.no_label)

    def check_logits(self, logits: Tensor) -> None:
        """Check that the loss of this task says something about these logits.

        Args:
            logits: what the student returned.

        Raises:
            ArgumentError: there is one column, and a softmax over it.
        """
        if logits.dim() > 0 and logits.shape[-1] == 1:
            raise ArgumentError(
                "model",
                "the student has one output column, as for regression or a single sigmoid. The softmax of one column is "
                "always 1, so there is nothing to distil. Give it a column for each class, also where there are two; or name "
                "task='regression' if its output is a number.",
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class: (..., V).

        Args:
            logits: aligned, (..., V), perhaps divided by a temperature.
        """
        return logits.softmax(-1)

    def decide(self, logits: Tensor) -> Tensor:
        """Return the labels that logits stand for, in the form of ``Targets.labels``; here the most likely class.

        Args:
            logits: aligned, (..., V).
        """
        return logits.argmax(-1)

    def confidence(self, logits: Tensor) -> Tensor:
        """Return the probability of what is decided: (...,).

        Args:
            logits: aligned, (..., V), perhaps divided by a temperature.
        """
        return self.probabilities(logits).amax(-1)

    def agreement(self, student: Tensor, teacher: Tensor | SparseTargets) -> Tensor:
        """Return in what share of its decisions the student agrees with the teacher: (...,), between 0 and 1.

        Args:
            student: aligned logits, (..., V).
            teacher: aligned logits, (..., V), or sparse targets of the same positions.
        """
        theirs = _top_class(teacher) if isinstance(teacher, SparseTargets) else self.decide(teacher)
        return (self.decide(student) == theirs).float()

    def comparisons(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Return metrics that need the logits of both models at once, as means over positions: (...,) by name; here none.

        Args:
            student: aligned logits, (..., V).
            teacher: aligned logits of the same positions.
        """
        return {}

    def scores(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return metrics that are means over positions: the value of each position, (...,), by the metric's name.

        Args:
            logits: aligned, (..., V).
            labels: as in ``Targets``.

        Returns:
            ``loss``, the hard term, and others such as ``accuracy``; 0 at a position without a label.
        """
        right = self.decide(logits) == most_likely_classes(labels)
        if is_rows(labels):
            entropies = distillation_loss(logits, None, labels, alpha=0.0, reduction="none")
        else:
            rows = logits.float().flatten(0, -2)
            entropies = cross_entropy(rows, labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
        return {"loss": entropies.view_as(right), "accuracy": (right & self.labelled(labels)).float()}

    def values(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the values whose mean over the labelled positions of a whole set is its ``score``: (...,).

        It is asked where the unit is an example.

        Args:
            logits: aligned, (..., V), of the whole set.
            labels: as in ``Targets``.
        """
        return self.scores(logits, labels)[self.score]

    def counts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what is counted in each example for metrics that are no means over positions, (N, K); here nothing.

        Args:
            logits: aligned, (N, ..., V).
            labels: as in ``Targets``.
        """
        return labels.new_zeros(len(labels), 0)

    def metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return the metrics by name that follow from the counts of a whole data set; here none.

        Args:
            counts: (K,), the sum of ``counts`` over its examples.

        Returns:
            A number for each metric, which can be differentiated with respect to the counts.
        """
        return {}

    def class_metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return the metrics of each class, (C,), by name, that follow from the counts of a whole data set; here none.

        Args:
            counts: (K,), the sum of ``counts`` over its examples.
        """
        return {}

    def sums(self, logits: Tensor, labels: Tensor) -> tuple[list[str], Tensor]:
        """Return what the metrics of a whole data set follow from, for each example.

        Args:
            logits: aligned, (N, ..., V).
            labels: as in ``Targets``.

        Returns:
            The names of the ``scores``; and (N, 1 + scores + counts), the number of labelled positions of each example, its sum
            of each score, and its ``counts``.
        """
        scores = self.scores(logits, labels)
        columns = (self.labelled(labels), *scores.values())
        sums = torch.stack([column.reshape(len(labels), -1).float().sum(-1) for column in columns], -1)
        return list(scores), torch.cat([sums, self.counts(logits, labels)], -1)  # in float64 if the counts are

    def metrics_of_sums(self, names: Sequence[str], total: Tensor) -> dict[str, Tensor]:
        """Return the mean of each score per labelled position, and the metrics that follow from the counts.

        Args:
            names: the names of the scores.
            total: (1 + scores + counts,), the sum of ``sums`` over the examples of a data set.
        """
        means = {name: total[1 + i] / total[0] for i, name in enumerate(names)}
        return means | self.metrics_of_counts(total[1 + len(names) :])

    def metrics(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> dict[str, float]:
        """Return the metrics of a whole data set, at T = 1, over its labelled positions.

        Args:
            logits: aligned, (..., V).
            labels: as in ``Targets``.
            teacher_logits: the teacher's, for the agreement; None leaves it out.

        Returns:
            The metrics by name; ``columns`` has the names.

        Raises:
            ArgumentError: no position has a label, or there is not one for each position.
        """
        teacher_rows = None if teacher_logits is None else teacher_logits.flatten(0, -2)
        labels = labels.flatten(0, -2 if is_rows(labels) else -1)
        return classification_metrics(logits.flatten(0, -2), labels, teacher_rows).as_dict()

    def tell(self, logits: Tensor, names: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return what one row of logits predicts at T = 1, in words and in numbers.

        Args:
            logits: (V,).
            names: the name of each class.

        Returns:
            The name of the most likely class, and the probability of each class by its name.
        """
        return names[int(logits.argmax())], dict(zip(names, self.probabilities(logits).tolist(), strict=True))


def has_numbers(task: Task) -> bool:
    """Return True if a task's outputs are numbers, which have no probabilities and no temperature.

    Args:
        task: any task.
    """
    return issubclass(FAMILIES[task.family], DistanceLoss)


def _top_class(targets: SparseTargets) -> Tensor:
    """Return the teacher's most likely class at each position; for sampled targets, the class drawn most often."""
    if targets.log_probs is not None:
        return targets.ids.gather(-1, targets.log_probs.argmax(-1, keepdim=True)).squeeze(-1)
    return targets.ids.mode(-1).values
