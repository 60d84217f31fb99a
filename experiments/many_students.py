"""Many perceptrons with one hidden layer at once: all temperatures and seeds of one combination in the same matrix products.

A student's weights, examples and steps are those of its seed, and its gradient is its own, so it learns as if it were alone.
This module is imported by ``experiments.replay`` and is not a command.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck import distillation_loss
from limbeck.models.networks import MLP


@dataclass(frozen=True)
class Recipe:
    """How students are trained. The learning rate falls to 0 with a cosine; gradients are clipped to a norm of 1."""

    hidden: int
    optim: str
    """"adamw" without weight decay, or "sgd" with a momentum of 0.9."""
    rate: float
    steps: int
    batch: int
    alpha: float = 0.9


@dataclass(frozen=True)
class Data:
    """Examples as rows of numbers, (N, F), with labels and the teacher's logits."""

    train: Tensor
    labels: Tensor
    teacher: Tensor
    validation: Tensor
    validation_labels: Tensor
    validation_teacher: Tensor
    test: Tensor
    test_labels: Tensor


class Students:
    """Perceptrons, one for each seed and arm: logits = W2 relu(W1 x + b1) + b2.

    Args:
        seeds: S of them; all arms of a seed begin with the same weights.
        arms: A.
        inputs, hidden, classes: F, H and V.
    """

    def __init__(self, seeds: int, arms: int, inputs: int, hidden: int, classes: int) -> None:
        begun = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            begun.append([p.detach() for p in MLP(inputs, classes, [hidden]).parameters()])
        first, bias, second, last = (torch.stack(p) for p in zip(*begun, strict=True))
        self.shape = seeds, arms, hidden, classes
        # The first layer of all arms is one matrix, since they see the same examples.
        self.parameters = [
            first.transpose(1, 2).repeat(1, 1, arms),
            bias[:, None].repeat(1, 1, arms),
            second.transpose(1, 2).repeat_interleave(arms, 0),
            last[:, None].repeat_interleave(arms, 0),
        ]
        for p in self.parameters:
            p.requires_grad_()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (S, A, B, V) of rows (S, B, F), or of rows (B, F) that all seeds see."""
        seeds, arms, hidden, classes = self.shape
        w1, b1, w2, b2 = self.parameters
        h = (x @ w1 + b1).relu().unflatten(-1, (arms, hidden)).transpose(1, 2).flatten(0, 1)
        return torch.baddbmm(b2, h, w2).view(seeds, arms, -1, classes)

    def clip(self) -> None:
        """Scale the gradient of each student whose norm is above 1."""
        seeds, arms, hidden, _ = self.shape
        views = [
            p.grad.view(seeds, -1, arms, hidden).transpose(1, 2) for p in self.parameters[:2] if p.grad is not None
        ]
        views += [p.grad.view(seeds, arms, -1) for p in self.parameters[2:] if p.grad is not None]
        norms = torch.stack([g.reshape(seeds, arms, -1).norm(dim=-1) for g in views]).norm(dim=0)
        scale = (1 / norms.clamp(min=1e-12)).clamp(max=1)
        for g in views:
            g.mul_(scale.view(seeds, arms, *[1] * (g.dim() - 2)))


def train_students(data: Data, recipe: Recipe, temperatures: list[float], seeds: int) -> tuple[Tensor, Tensor]:
    """Train a student for each seed and temperature, and one for each seed without a teacher.

    Args:
        data: the examples.
        recipe: how students are trained.
        temperatures: T of each arm.
        seeds: how many.

    Returns:
        The logits of validation and test examples, (S, A + 1, n, V) both in float16; the last arm has no teacher.
    """
    arms, classes = len(temperatures), data.teacher.shape[1]
    students = Students(seeds, arms + 1, data.train.shape[1], recipe.hidden, classes)
    optimizer = (
        torch.optim.AdamW(students.parameters, lr=recipe.rate, weight_decay=0.0)
        if recipe.optim == "adamw"
        else torch.optim.SGD(students.parameters, lr=recipe.rate, momentum=0.9)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    )
    orders = [_batches(len(data.train), recipe, seed) for seed in range(seeds)]
    softness = torch.tensor(temperatures).view(1, arms, 1)
    for step in range(recipe.steps):
        rows = torch.stack([order[step] for order in orders])
        z, labels, teacher = students(data.train[rows]), data.labels[rows], data.teacher[rows]
        size = (seeds, arms, rows.shape[1])
        soft = z.new_zeros(()) if not arms else distillation_loss(
            z[:, :-1], teacher[:, None].expand(*size, classes), labels[:, None].expand(size),
            temperature=softness.expand(size), alpha=recipe.alpha, reduction="sum",
        )  # fmt: skip
        hard = torch.nn.functional.cross_entropy(z[:, -1].flatten(0, 1), labels.flatten(), reduction="sum")
        optimizer.zero_grad()
        ((soft + hard) / rows.shape[1]).backward()
        students.clip()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return tuple(
            torch.cat([students(part).half() for part in rows.split(1000)], 2) for rows in (data.validation, data.test)
        )


def _batches(count: int, recipe: Recipe, seed: int) -> list[Tensor]:
    """Return the rows of each step: passes over all examples in a new order, whose last batch may begin the next pass."""
    generator, rows = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)
    while len(rows) < recipe.steps * recipe.batch:
        rows = torch.cat([rows, torch.randperm(count, generator=generator)])
    return list(rows[: recipe.steps * recipe.batch].view(recipe.steps, recipe.batch))
