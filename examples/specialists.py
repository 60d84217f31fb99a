"""Show what a specialist adds: a teacher of all ten classes of Fashion-MNIST, and one that knows four tops alone.

    python examples/specialists.py [FOLDER WITH THE IDX FILES]

The generalist has seen 1,000 labels of all classes. The specialist has seen 8,000 images of t-shirts, pullovers, coats and
shirts, which the generalist confuses, and knows nothing else. Two generalists, each with 1,000 labels of its own, are the
control.
The student has none of the labels: it learns from the teachers' answers about 10,000 other images.
"""

import statistics
import sys

import torch
from torch import nn

from limbeck import DistillationLoss
from limbeck.data import DataConfig, load_splits
from limbeck.teachers import Ensemble

TOPS, SEEDS, T = (0, 2, 4, 6), 5, 4.0


def network(outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def fit(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> nn.Module:
    """Train a model on labels, or on a teacher's logits in their place."""
    objective = DistillationLoss(temperature=T, alpha=0.0 if targets is None else 1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(600):
        rows = torch.randint(len(images), (64,))
        objective(model(images[rows]), None if targets is None else targets[rows], labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Return the accuracy on all images and on the tops alone, in per cent."""
    right, tops = (logits.argmax(-1) == labels).float(), torch.isin(labels, torch.tensor(TOPS))
    return 100 * right.mean().item(), 100 * right[tops].mean().item()


@torch.no_grad()
def answers(teacher: Ensemble, images: torch.Tensor) -> torch.Tensor:
    return teacher({"pixel_values": images}).logits


def one_seed(seed: int, images: torch.Tensor, labels: torch.Tensor, test: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """Return the accuracies of each teacher and of its student."""
    torch.manual_seed(seed)
    order = torch.randperm(len(images))
    pool, rest = order[:10_000], order[10_000:]
    of_tops = rest[torch.isin(labels[rest], torch.tensor(TOPS))][:8_000]
    generalists = [fit(network(10, 256), images[rows], labels[rows]) for rows in (rest[:1_000], rest[1_000:2_000])]
    number = torch.full((10,), -1)
    number[list(TOPS)] = torch.arange(len(TOPS))
    specialist = fit(network(len(TOPS), 256), images[of_tops], number[labels[of_tops]])
    teachers = {
        "the generalist": Ensemble(generalists[:1], temperature=T),
        "two generalists": Ensemble(generalists, temperature=T),
        "generalist and specialist": Ensemble(
            [generalists[0], specialist], [1, 4], temperature=T, classes=[None, TOPS]
        ),
    }
    found = {}
    for name, teacher in teachers.items():
        targets = answers(teacher, images[pool])
        torch.manual_seed(seed)
        student = fit(network(10, 32), images[pool], labels[pool], targets)
        with torch.no_grad():
            logits = student(test["pixel_values"])
        found[name] = accuracy(answers(teacher, test["pixel_values"]), test["labels"]), accuracy(logits, test["labels"])
    return found


if __name__ == "__main__":
    splits = load_splits(DataConfig("fashion-mnist", folder=sys.argv[1] if len(sys.argv) > 1 else None))
    train, test = splits.train.as_one_batch(), splits.test.as_one_batch()
    found = [one_seed(seed, train["pixel_values"], train["labels"], test) for seed in range(SEEDS)]
    print(f"{'taught by':28}{'teacher':>14}{'its tops':>14}{'student':>14}{'its tops':>14}")
    for name in found[0]:
        columns = zip(*((*of_seed[name][0], *of_seed[name][1]) for of_seed in found), strict=True)
        told = (f"{statistics.mean(column):.1f} ± {statistics.stdev(column) / SEEDS**0.5:.1f}" for column in columns)
        print(f"{name:28}" + "".join(f"{text:>14}" for text in told))
