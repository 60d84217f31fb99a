"""The properties of how a loss treats its inputs: one small function for each."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.check.facts import Facts, is_near
from limbeck.check.probe import Example, Probe, size, told
from limbeck.check.verdicts import Finding, Verdict

RIGHT, WRONG, LIMITED, UNKNOWN, ABSENT = Verdict
IGNORED = -100
MANY_CLASSES = 140_001
_EXACT = 1e-4


def teacher_gradient(facts: Facts) -> Finding:
    """Say whether the teacher receives gradient.

    Args:
        facts: what is measured of the loss.
    """
    name = "teacher_gradient"
    student, teacher, labels = facts.example
    leaf = teacher.clone().requires_grad_()
    value = facts.probe.loss(student.clone().requires_grad_() * 1, leaf * 1, labels, facts.probe.temperature)
    given = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    share = 0.0 if given is None else size(given) / max(facts.whole, 1e-300)
    shown = f"{share:.0e} of the student's"
    if share == 0:
        return Finding(name, RIGHT, shown, share)
    return Finding(
        name, LIMITED, shown, share, "Detach the teacher's logits, or run the teacher under torch.no_grad()."
    )


def inputs_kept(facts: Facts) -> Finding:
    """Say whether the logits are as they were after the call.

    Args:
        facts: what is measured of the loss.
    """
    name = "inputs_kept"
    probe = facts.probe.in_dtype(torch.float32)  # a loss that converts float64 overwrites its own copy
    probe.run(probe.draw())
    changes = {who: max(change, facts.probe.overwritten[who]) for who, change in probe.overwritten.items()}
    who = max(changes, key=lambda key: changes[key])
    if changes[who] == 0:
        return Finding(name, RIGHT, "the logits are as they were", 0.0)
    fix = "Use no in-place operation (/=, sub_, masked_fill_) on an argument."
    return Finding(name, WRONG, f"the {who}'s logits change by {changes[who]:.2g}", changes[who], fix)


def batch_split(facts: Facts) -> Finding:
    """Say whether the gradients of two halves of a batch add up to that of the batch.

    Args:
        facts: what is measured of the loss.
    """
    name = "batch_split"
    probe, rows = facts.probe, facts.probe.shape[0]
    example = probe.draw(3, shape=(2 * rows, *probe.shape[1:]))
    whole = probe.gradient(example)
    parts = torch.cat([probe.gradient(example.map(lambda z, i=i: z[i : i + rows])) for i in (0, rows)])
    factor = ((whole * parts).sum() / parts.square().sum()).item()
    residual = size(whole - factor * parts) / max(size(whole), 1e-300)
    shown = f"the gradients differ by {residual:.0e}"
    if residual < _EXACT:
        return Finding(name, RIGHT, shown, residual)
    return Finding(
        name,
        LIMITED,
        shown,
        residual,
        "Do not accumulate gradients with it: a row's gradient depends on the other rows.",
    )


def padding(facts: Facts) -> Finding:
    """Say whether positions labelled -100 count, in the terms and in what they are divided by.

    Args:
        facts: what is measured of the loss.
    """
    name = "padding"
    if not facts.probe.loss.takes_labels:
        return Finding(name, ABSENT, "the loss takes no labels")
    example, kept, padded, truncated = _padded(facts.probe)
    is_sequence = example.student.dim() == 3
    refused = LIMITED if is_sequence else ABSENT
    try:
        if not facts.probe.gradient(example).isfinite().all():
            return Finding(
                name, LIMITED, f"NaN with labels of {IGNORED}", math.nan, f"Leave out positions labelled {IGNORED}."
            )
        soft = facts.soft_change(example)
    except Exception as error:  # the loss is anybody's
        return Finding(name, refused, f"labels of {IGNORED} are refused: {type(error).__name__}")
    if facts.has_hard:
        equal = facts.probe.gradient(example._replace(teacher=example.student))
        hard = size(equal[padded]) / max(size(equal[kept]), 1e-300)
        if (
            hard > _EXACT
            and facts.hard_match
            and (facts.match is None or (facts.match.soft and facts.match.soft.is_right))
        ):
            fix = f"Leave positions labelled {IGNORED} out of the hard term (ignore_index)."
            return Finding(name, WRONG, f"they get {hard:.2g} of the hard gradient of others", hard, fix)
    if not facts.has_soft:
        return Finding(name, RIGHT if facts.has_hard else ABSENT, "no soft term")
    counted = size(soft[padded]) / max(size(soft[kept]), 1e-300)
    if counted > _EXACT:
        fix = f"If they are padding, leave positions labelled {IGNORED} out of the soft term too, and out of its count."
        return Finding(
            name, WRONG if is_sequence else LIMITED, f"the soft term counts positions labelled {IGNORED}", counted, fix
        )
    share = size(soft[kept]) / max(size(facts.soft_change(truncated)[kept]), 1e-300)
    shown = f"padding makes the soft gradient of the rest x {share:.2g}"
    if is_near(share, 1):
        return Finding(name, RIGHT, shown, share)
    if facts.match is None:  # its soft term may depend on the labels
        return Finding(name, UNKNOWN, shown, share)
    return Finding(name, WRONG, shown, share, "Divide by the positions that count, not by all.")


def _padded(probe: Probe) -> tuple[Example, tuple[slice, ...], tuple[slice, ...], Example]:
    """Return an example whose second half is padding, where it counts, where it does not, and its first half."""
    axis = len(probe.shape) - 2
    length = probe.shape[axis]
    example = probe.draw(4, shape=(*probe.shape[:axis], 2 * length, probe.shape[-1]))
    first = (*[slice(None)] * axis, slice(0, length))
    second = (*[slice(None)] * axis, slice(length, 2 * length))
    labels = example.labels.clone()
    labels[second] = IGNORED
    inside = (*[slice(None)] * axis, slice(0, length - 1 if axis else length))  # the last label may be that of the next
    return example._replace(labels=labels), inside, second, example.map(lambda z: z[first])


def nothing_counted(facts: Facts) -> Finding:
    """Say whether a batch in which every label is -100 gives a finite loss and gradient.

    Args:
        facts: what is measured of the loss.
    """
    name = "nothing_counted"
    if not facts.probe.loss.takes_labels:
        return Finding(name, ABSENT, "the loss takes no labels")
    example = facts.example
    labels = torch.full_like(example.labels, IGNORED)
    fix = f"Return a sum times 0 where every label is {IGNORED}, so that the loss is 0 and backward works."
    try:
        value, gradient = facts.probe.run(example._replace(labels=labels))
    except Exception as error:  # the loss is anybody's
        return Finding(name, ABSENT, f"labels of {IGNORED} are refused: {type(error).__name__}")
    if gradient is None:
        return Finding(name, LIMITED, f"the loss is {value:.3g} and has no graph", value.item(), fix)
    if not (value.isfinite() and gradient.isfinite().all()):
        return Finding(name, LIMITED, f"the loss is {value:.3g}", value.item(), fix)
    return Finding(name, RIGHT, f"the loss is {value:.3g}, its gradient finite", value.item())


def value(facts: Facts) -> Finding:
    """Say whether the soft term is 0 where the models are equal.

    Args:
        facts: what is measured of the loss.
    """
    name = "value"
    if not facts.has_soft:
        return Finding(name, ABSENT, "no soft term")
    if facts.has_hard and facts.hard_match is None:
        return Finding(name, UNKNOWN, "the terms cannot be told apart")
    different = facts.example
    equal = different._replace(teacher=different.student)
    at_equal, usual = (abs(_soft_value(facts, example)) for example in (equal, different))
    share = at_equal / max(usual, 1e-300)
    shown = f"for equal models {at_equal:.1g}, usually {usual:.2g}"
    if share < 1e-3:
        return Finding(name, RIGHT, shown, share)
    return Finding(
        name, LIMITED, shown, share, "Subtract the teacher's entropy, and the value shows how far the student is."
    )


def _soft_value(facts: Facts, example: Example) -> float:
    total = facts.probe.run(example)[0].double()
    found = facts.hard_match
    if facts.has_hard and found and found.hard:
        student, _, labels = facts.probe.aligned(example)
        values = found.hard.values(student.double(), labels, facts.probe.temperature)
        total = total - sum(w * v for w, v in zip(found.hard_weights, values, strict=True))
    return total.item()


def minus_infinity(facts: Facts) -> Finding:
    """Say whether a class that both models lack, with the logit -inf, leaves the loss finite.

    Args:
        facts: what is measured of the loss.
    """
    example = facts.example.map(Tensor.clone)
    example.student[..., -1] = example.teacher[..., -1] = -math.inf
    example = example._replace(labels=example.labels.clamp(max=example.student.shape[-1] - 2))
    return _finite(
        "minus_infinity", facts.probe, example, "Fill a shared -inf with 0 after log_softmax: 0 * -inf is NaN."
    )


def large_logits(facts: Facts) -> Finding:
    """Say whether float32 logits of some hundreds leave the loss finite.

    Args:
        facts: what is measured of the loss.
    """
    probe = facts.probe.in_dtype(torch.float32)
    return _finite(
        "large_logits", probe, probe.draw(6, scale=150), "Use log_softmax in place of log(softmax(...)) or exp."
    )


def large_vocabulary(facts: Facts) -> Finding:
    """Say whether a vocabulary of 140,001 classes is taken.

    Args:
        facts: what is measured of the loss.
    """
    if facts.probe.loss.is_adapted:
        return Finding("large_vocabulary", ABSENT, "not tried: the loss is called by an expression")
    probe = facts.probe.in_dtype(torch.float32)
    example = probe.draw(7, shape=(*[1] * (len(probe.shape) - 2), 2, MANY_CLASSES))
    return _finite("large_vocabulary", probe, example, "Find the limit on the number of classes.")


def _finite(name: str, probe: Probe, example: Example, fix: str) -> Finding:
    try:
        value, gradient = probe.run(example)
    except Exception as error:  # the loss is anybody's
        return Finding(name, LIMITED, told(error), None, fix)
    if value.isfinite() and gradient is not None and gradient.isfinite().all():
        return Finding(name, RIGHT, f"the loss is {value:.3g}", value.item())
    share = 1.0 if gradient is None else 1 - gradient.isfinite().double().mean().item()
    return Finding(name, LIMITED, f"the loss is {value:.3g}, {share:.0%} of the gradient not finite", share, fix)


def bfloat16(facts: Facts) -> Finding:
    """Say how far the gradient is off for close models whose logits are bfloat16.

    Args:
        facts: what is measured of the loss.
    """
    name = "bfloat16"
    fix = "Convert the logits first: logits.float(). Under autocast, torch's softmax and kl_div do so by themselves."
    probe = facts.probe.in_dtype(torch.bfloat16)
    example = facts.probe.draw(8, scale=2.5, shape=(*[1] * (len(probe.shape) - 2), 4, 2000))
    close = example._replace(student=example.teacher + 0.04 * example.student)
    rounded = close.map(lambda z: z.bfloat16() if z.is_floating_point() else z)
    tau = 1.0 if probe.loss.takes_temperature else probe.temperature
    try:
        seen = probe.gradient(rounded, tau)
    except Exception as error:  # the loss is anybody's
        return Finding(name, LIMITED, f"refused: {type(error).__name__}", None, fix)
    truth = facts.probe.gradient(rounded.map(lambda z: z.to(facts.probe.dtype) if z.is_floating_point() else z), tau)
    seen, truth = (_without_labels(probe, gradient, close) for gradient in (seen, truth))
    off = size(seen - truth) / max(size(truth), 1e-300)
    shown = f"the gradient is off by {off:.1%}"
    return Finding(name, RIGHT, shown, off) if off < 0.03 else Finding(name, LIMITED, shown, off, fix)


def _without_labels(probe: Probe, gradient: Tensor, example: Example) -> Tensor:
    """Return a gradient without its large entries at the labels."""
    labels = probe.aligned(example).labels
    return probe.aligned_gradient(gradient).scatter(-1, labels.unsqueeze(-1), 0.0)


ABOUT_INPUTS = (
    teacher_gradient,
    batch_split,
    padding,
    nothing_counted,
    value,
    minus_infinity,
    large_logits,
    bfloat16,
    large_vocabulary,
    inputs_kept,
)
