"""Dense prediction: a class for each pixel, as in semantic segmentation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.errors import ArgumentError
from limbeck.losses import SparseTargets
from limbeck.models import first_input
from limbeck.tasks.base import Targets, Task


class DensePrediction(Task):
    """A class for each pixel: logits (N, C, H, W) meet labels (N, H, W), -100 at a pixel without a label.

    Every pixel with a label counts; in a batch without labels, every pixel. A boolean ``mask`` (N, H, W) in the batch
    overrides this. Logits of another height and width than the labels', or without labels the image's, are interpolated
    (bilinear, ``align_corners=False``), the student's and the teacher's each from its own resolution. Labels have the height
    and width of the images, or both divided by one whole number; others are refused, since they may show another part.
    """

    name: ClassVar[str] = "dense_prediction"
    unit: ClassVar[str] = "pixel"
    head: ClassVar[str | None] = "AutoModelForSemanticSegmentation"
    score: ClassVar[str] = "mean_iou"
    columns: ClassVar[Mapping[str, str]] = {
        "mean_iou": "mean IoU, %",
        "accuracy": "accuracy, %",
        "nll": "NLL",
        "agreement": "agreement, %",
    }

    def __init__(self) -> None:
        self._told: set[tuple[str, torch.Size]] = set()

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the models of semantic segmentation of Transformers."""
        return name.endswith("ForSemanticSegmentation")

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count.

        Raises:
            ArgumentError: there is not one label for each pixel.
        """
        labels, mask = batch.get("labels"), batch.get("mask")
        if labels is not None and (labels.dim() != 3 or labels.is_floating_point()):
            raise ArgumentError(
                "labels",
                f"{labels.dtype} of shape {tuple(labels.shape)}: task='dense_prediction' expects the number of a class for "
                "each pixel, (N, H, W).",
            )
        if mask is None and labels is not None:
            mask = self.labelled(labels)
        elif mask is None:
            images = first_input(batch)
            mask = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
        return Targets(labels, mask)

    def fit(self, logits: Tensor, batch: Mapping[str, Any], whose: str) -> Tensor:
        """Return logits with the height and width of the labels, interpolated where they have others. A warning says so once.

        Raises:
            ArgumentError: the logits are not those of pixels, or the labels do not lie on the pixels of the images.
        """
        if logits.dim() != 4:
            raise ArgumentError(
                "model" if whose == "student" else whose,
                f"the {whose} returned logits of shape {tuple(logits.shape)}; task='dense_prediction' expects (N, C, H, W).",
            )
        labels = batch.get("labels")
        image = first_input(batch)
        size = (image if labels is None else labels).shape[-2:]
        if image.dim() == 4 and not _is_reduced(image.shape[-2:], size):
            given, wanted = (" x ".join(map(str, s)) for s in (size, image.shape[-2:]))
            raise ArgumentError(
                "labels",
                f"are {given}, and the images {wanted}. Expected a class for each pixel, or for each square of k x k pixels. "
                "Resize or crop masks as the images, to the nearest pixel.",
            )
        if logits.shape[-2:] == size:
            return logits
        if (whose, size) not in self._told:
            self._told.add((whose, size))
            given, wanted = (" x ".join(map(str, s)) for s in (logits.shape[-2:], size))
            what = "images" if labels is None else "labels"
            warnings.warn(
                f"The {whose}'s logits of {given} are interpolated to the {wanted} of the {what}.", stacklevel=2
            )
        return interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits with the classes in the last axis, (N, C, H, W) -> (N, H, W, C). Nothing is copied."""
        return logits.movedim(1, -1)

    def align_targets(self, targets: SparseTargets) -> SparseTargets:
        """Return sparse targets of pixels as they are: their classes are in the last axis."""
        return targets

    def check_logits(self, logits: Tensor) -> None:
        """Check that there are two classes or more.

        Raises:
            ArgumentError: there is one, and a softmax over it.
        """
        super().check_logits(self.align(logits))

    def counts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return how many pixels of each example are right, decided and labelled to be of each class: (N, 3 C).

        Args:
            logits: (N, H, W, C).
            labels: (N, H, W). Pixels without a label do not count.
        """
        classes, labelled = logits.shape[-1], self.labelled(labels)
        decided = self.decide(logits)
        example = torch.arange(len(labels), device=labels.device).reshape(-1, *[1] * (labels.dim() - 1))

        def count(found: Tensor, counted: Tensor) -> Tensor:
            places = (example * classes + found)[counted]
            return torch.bincount(places, minlength=len(labels) * classes).reshape(len(labels), classes)

        right = labelled & (decided == labels)
        return torch.cat([count(decided, right), count(decided, labelled), count(labels, labelled)], dim=-1)

    def metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return the mean over classes of intersection over union.

        Args:
            counts: (3 C,), the sum of ``counts`` over examples. Classes that no pixel has or is decided to have are left out.
        """
        right, union = _right_and_union(counts)
        return {"mean_iou": (right[union > 0] / union[union > 0]).mean()}

    def class_metrics_of_counts(self, counts: Tensor) -> dict[str, Tensor]:
        """Return the intersection over union of each class, (C,); NaN for one that no pixel has.

        Args:
            counts: (3 C,), the sum of ``counts`` over examples.
        """
        right, union = _right_and_union(counts)
        return {"iou": (right / union).masked_fill(counts.chunk(3)[2] == 0, torch.nan)}

    def metrics(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> dict[str, float]:
        """Return the metrics of a whole data set, over its labelled pixels.

        Args:
            logits: (N, H, W, C).
            labels: (N, H, W).
            teacher_logits: the teacher's, for the agreement; None leaves it out.

        Returns:
            ``accuracy``, the share of right pixels; ``mean_iou``, the mean over classes of intersection over union, over all
            pixels of the set; ``nll`` and ``agreement`` per pixel.

        Raises:
            ArgumentError: no pixel has a label, or there is not one for each pixel.
        """
        labelled = self.labelled(labels)
        if logits.shape[:-1] != labels.shape or not bool(labelled.any()):
            raise ArgumentError(
                "labels", f"expected some for logits of shape {tuple(logits.shape)}, got shape {tuple(labels.shape)}."
            )
        names, total, agreed = list[str](), torch.zeros(()), 0.0
        for i in range(len(labels)):  # one by one: float64 of a whole set would be a large copy
            one, truth = logits[i : i + 1].double(), labels[i : i + 1]
            names, sums = self.sums(one, truth)
            total = total + sums.sum(0).double().cpu()
            if teacher_logits is not None:
                agreed += self.agreement(one, teacher_logits[i : i + 1])[labelled[i : i + 1]].double().sum().item()
        found = {name: value.item() for name, value in self.metrics_of_sums(names, total).items()}
        metrics = {"mean_iou": found["mean_iou"], "accuracy": found["accuracy"], "nll": found["loss"]}
        return metrics if teacher_logits is None else {**metrics, "agreement": agreed / int(labelled.sum())}

    def tell(self, logits: Tensor, names: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return what an image shows: the names of the decided classes, the largest first, and the share of pixels of each.

        Args:
            logits: (..., C), aligned, of the pixels of one image.
            names: the name of each class.
        """
        decided = self.decide(logits).flatten()
        shares = (decided.bincount(minlength=len(names)) / len(decided)).tolist()
        there = sorted((i for i, share in enumerate(shares) if share), key=lambda i: -shares[i])
        return ", ".join(names[i] for i in there), dict(zip(names, shares, strict=True))


def _right_and_union(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels of each class that are right, and those that are decided or labelled to be of it."""
    right, decided, labelled = counts.double().chunk(3)
    return right, decided + labelled - right


def _is_reduced(image: Sequence[int], labels: Sequence[int]) -> bool:
    """Return True if the height and width of labels are those of the image, each divided by the same whole number."""
    return image[0] % labels[0] == image[1] % labels[1] == 0 and image[0] // labels[0] == image[1] // labels[1]
