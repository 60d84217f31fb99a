"""How good is a student? Everything here is at T = 1: plain softmax or argmax of the logits.

``predict_logits`` runs a model over a set, whose logits ``limbeck.metrics`` measures; ``compare`` trains several arms over
several seeds and tells how sure the difference is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from limbeck.data import Examples, as_is
from limbeck.files import append_line, read_lines
from limbeck.metrics import measure
from limbeck.models import forward_logits


@torch.no_grad()
def predict_logits(
    model: nn.Module, examples: Examples, *, batch_size: int = 512, progress: str | None = None
) -> Tensor:
    """The model's logits for every example, (N, V) in float32 on the CPU; the model is left in eval mode.

    Args:
        model: any model that ``limbeck.models.forward_logits`` can call.
        examples: what to run it on.
        batch_size: examples at a time.
        progress: the title of a progress bar, which appears when it takes longer than a second.
    """
    from tqdm import tqdm

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    # An unshuffled loader still draws a seed for its workers: from a generator of its own, so that evaluating a model
    # does not change how the next one is trained.
    loader = DataLoader(examples, batch_size=batch_size, collate_fn=as_is, generator=torch.Generator())
    batches = tqdm(loader, desc=progress, delay=1.0, leave=False, disable=progress is None)
    logits = [forward_logits(model, _to(batch, device)).float().cpu() for batch in batches]
    return torch.cat(logits) if logits else torch.empty(0, 0)


@torch.no_grad()
def milliseconds_per_batch(
    model: nn.Module, examples: Examples, *, batch_size: int = 128, seconds: float = 0.2
) -> float:
    """The median time of one forward pass on a batch of ``batch_size``."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batch = _to(examples.__getitems__([i % len(examples) for i in range(batch_size)]), device)
    model.eval()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        forward_logits(model, batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error."""

    mean: float
    error: float
    """Standard error of the mean; NaN for one seed."""
    count: int = 1
    """How many seeds."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Summarise one value per seed.

        >>> Estimate.of([1.0, 2.0, 3.0]).mean
        2.0
        """
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), error, len(values))

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside the 95 % interval, by Student's t: few seeds must differ much to show anything."""
        from scipy.stats import t

        return self.count > 1 and abs(self.mean) > float(t.ppf(0.975, self.count - 1)) * self.error


@dataclass(frozen=True)
class ArmResult:
    """What one arm of a comparison reached, seed by seed."""

    name: str
    metrics: dict[str, list[float]]

    def __getitem__(self, metric: str) -> Estimate:
        return Estimate.of(self.metrics[metric])


def compare(
    arms: Sequence[str],
    seeds: Sequence[int],
    run: Callable[[str, int], dict[str, float]],
    *,
    record: Path | None = None,
    progress: str | None = None,
) -> dict[str, ArmResult]:
    """Train every arm with every seed.

    Args:
        arms: what is compared, by name.
        seeds: one run of each arm for each of them; a seed means the same data order and the same start in every arm.
        run: trains one arm with one seed and returns its metrics.
        record: a file that keeps what is finished; what it has already is not run again.
        progress: the title of a progress bar.
    """
    from tqdm import tqdm

    finished = {(line["arm"], line["seed"]): line["metrics"] for line in read_lines(record)} if record else {}
    with tqdm(total=len(arms) * len(seeds), desc=progress, disable=progress is None, leave=False) as bar:
        for seed in seeds:
            for arm in arms:
                bar.set_postfix_str(arm)
                if (arm, seed) not in finished:
                    finished[arm, seed] = run(arm, seed)
                    if record is not None:
                        append_line(record, {"arm": arm, "seed": seed, "metrics": finished[arm, seed]})
                bar.update()
    return {
        arm: ArmResult(arm, {name: [finished[arm, seed][name] for seed in seeds] for name in finished[arm, seeds[0]]})
        for arm in arms
    }


def difference(first: ArmResult, second: ArmResult, metric: str) -> Estimate:
    """``first`` minus ``second``, seed by seed: what they share with a seed cancels."""
    pairs = zip(first.metrics[metric], second.metrics[metric], strict=True)
    return Estimate.of([a - b for a, b in pairs])


def best_bias(logits: Tensor, labels: Tensor, wanted: int) -> float:
    """The number to add to the logit of class ``wanted`` that makes most of these examples right.

    For a class that training omitted, whose bias says so (Hinton et al., 2015, section 3). Of several equally good
    numbers, the middle of the widest interval. Choose it on validation, never on test.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
        >>> best_bias(logits, torch.tensor([0, 1, 0]), wanted=1)
        1.5
    """
    others = logits.clone().double()
    others[:, wanted] = -math.inf
    # An example goes to the class once the bias exceeds its threshold.
    thresholds = others.amax(-1) - logits[:, wanted].double()
    gain = torch.where(labels == wanted, 1, 0) - torch.where((labels != wanted) & (others.argmax(-1) == labels), 1, 0)
    order = thresholds.argsort()
    ordered, right = thresholds[order].tolist(), gain[order].cumsum(0).tolist()
    # Between two neighbouring thresholds the number right is constant; below the first it is 0, by which others count.
    best, interval = 0, (ordered[0] - 2.0, ordered[0])
    for i, count in enumerate(right):
        low = ordered[i]
        high = ordered[i + 1] if i + 1 < len(ordered) else low + 2.0
        if high > low and (count, high - low) > (best, interval[1] - interval[0]):
            best, interval = count, (low, high)
    return (interval[0] + interval[1]) / 2


def omission(
    validation: Tensor, validation_labels: Tensor, test: Tensor, labels: Tensor, omitted: int
) -> dict[str, float]:
    """Of the test examples of a class that the student never saw: how many it gets, before and after correcting its bias.

    The bias of its logit is the one that serves validation best. ``before`` and ``after`` are the accuracies on that class,
    ``all_before`` and ``all_after`` those over every test example, ``validation_after`` that on validation.

    Args:
        validation: (M, V) logits.
        validation_labels: (M,).
        test: (N, V) logits.
        labels: (N,), of the test examples.
        omitted: the class.
    """
    bias = torch.zeros(test.shape[-1])
    bias[omitted] = best_bias(validation, validation_labels, omitted)
    theirs = labels == omitted
    before, after = test.argmax(-1) == labels, (test + bias).argmax(-1) == labels
    return {
        "before": before[theirs].double().mean().item(),
        "after": after[theirs].double().mean().item(),
        "all_before": before.double().mean().item(),
        "all_after": after.double().mean().item(),
        "validation_after": measure(validation + bias, validation_labels).accuracy,
    }


def _to(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
