"""The properties of what a loss computes: one small function for each."""

from __future__ import annotations

from limbeck.check.facts import Facts, Shares, is_near
from limbeck.check.probe import size
from limbeck.check.verdicts import Finding, Verdict

RIGHT, WRONG, UNKNOWN, ABSENT = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN, Verdict.ABSENT
_NO_T = "the loss takes no T"
_UNRECOGNISED = "the divergence was not recognised"


def gradient(facts: Facts) -> Finding:
    """Say whether the student gets gradient, and whether the teacher changes it.

    Args:
        facts: what is measured of the loss.
    """
    name = "gradient"
    if not facts.whole:
        return Finding(
            name, WRONG, "the student gets no gradient", 0.0, "Take detach, no_grad or argmax off the student's logits."
        )
    share = size(facts.soft_change(facts.example)) / facts.whole
    if not facts.has_soft:
        fix = "Give the soft term a weight above 0, and the teacher's logits."
        return Finding(name, WRONG, "the teacher does not change it", share, fix)
    return Finding(name, RIGHT, "it depends on the teacher", share)


def divergence(facts: Facts) -> Finding:
    """Say which divergence the soft term is, and in which direction.

    Args:
        facts: what is measured of the loss.
    """
    name = "divergence"
    if not facts.has_soft:
        return Finding(name, ABSENT, "no soft term")
    if facts.match is None or facts.match.soft is None:
        return Finding(name, UNKNOWN, "none of those that are known")
    soft, residual = facts.match.soft, facts.match.residual
    if max(facts.match.soft_weights) < 0:
        return Finding(
            name, WRONG, f"minus {soft.name}", -1.0, "Turn the sign: the loss pushes the student away from the teacher."
        )
    shown = f"{soft.name}, gradients differ by {residual:.0e}"
    return Finding(name, WRONG if soft.fix else RIGHT, shown, residual, soft.fix)


def temperature(facts: Facts) -> Finding:
    """Say whether both models' logits are divided by T, once.

    Args:
        facts: what is measured of the loss.
    """
    name = "temperature"
    if not facts.has_soft or not facts.probe.loss.takes_temperature:
        return Finding(name, ABSENT, _NO_T if facts.has_soft else "no soft term")
    if facts.match is None or facts.match.soft is None:
        return Finding(name, UNKNOWN, _UNRECOGNISED)
    soft = facts.match.soft
    if not soft.power:
        return Finding(name, ABSENT, "logits are compared, without a softmax")
    if soft.sides:
        fix = "Divide both models' logits by T, once, before the softmax."
        return Finding(name, WRONG, f"T divides {soft.sides}", facts.match.residual, fix)
    return Finding(name, RIGHT, "T divides both models' logits", facts.match.residual)


def compensation(facts: Facts) -> Finding:
    """Say whether the gradient of the soft term keeps its size when T changes.

    Args:
        facts: what is measured of the loss.
    """
    name = "compensation"
    if not facts.has_soft or not facts.probe.loss.takes_temperature:
        return Finding(name, ABSENT, _NO_T if facts.has_soft else "no soft term")
    power = facts.soft_power
    shown = f"the soft gradient grows like T^{power:.2f}"
    if facts.match and facts.match.soft and facts.match.soft.sides:
        return Finding(name, UNKNOWN, f"{shown}: see temperature first", power)
    if is_near(power, 0, 0.3):
        return Finding(name, RIGHT, shown, power)
    if not is_near(power, round(power), 0.3) or (power > 0 and facts.match is None):
        return Finding(name, UNKNOWN, shown, power)
    factor = f"T^{abs(round(power))}" if abs(round(power)) > 1 else "T"
    if power < 0:
        return Finding(name, WRONG, shown, power, f"Multiply the soft term by {factor}: it is missing.")
    return Finding(name, WRONG, shown, power, f"Divide the soft term by {factor}: it is multiplied too often.")


def hard_term(facts: Facts) -> Finding:
    """Say whether the hard term is a cross-entropy at T = 1 whose weight does not depend on T.

    Args:
        facts: what is measured of the loss.
    """
    name = "hard_term"
    if not facts.has_hard:
        shown = "the loss takes no labels" if not facts.probe.loss.takes_labels else "labels do not change the gradient"
        return Finding(name, ABSENT, shown)
    found = facts.hard_match
    if found and found.hard:
        if found.hard_weights[0] < 0:
            return Finding(name, WRONG, f"minus {found.hard.name}", -1.0, "Turn the sign of the hard term.")
        if found.hard.fix and facts.probe.temperature != 1:
            return Finding(
                name,
                WRONG,
                f"{found.hard.name}, gradients differ by {found.residual:.0e}",
                found.residual,
                found.hard.fix,
            )
    if not facts.probe.loss.takes_temperature:
        return Finding(name, RIGHT if found else UNKNOWN, "CE at T = 1" if found else "not recognised")
    shown = f"{'CE at T = 1' if found else 'not recognised'}, its gradient grows like T^{facts.hard_power:.2f}"
    if found is None:
        return Finding(name, UNKNOWN, shown, facts.hard_power)
    if is_near(facts.hard_power, 0, 0.1):
        return Finding(name, RIGHT, shown, facts.hard_power)
    return Finding(name, WRONG, shown, facts.hard_power, "Multiply the soft term alone by T², not the hard one.")


def reduction(facts: Facts) -> Finding:
    """Say by what the soft term is divided, and whether the hard term is divided by the same.

    Args:
        facts: what is measured of the loss.
    """
    name = "reduction"
    if not facts.has_soft:
        return Finding(name, ABSENT, "no soft term")
    soft = facts.soft_shares
    if not soft.is_known():
        return Finding(
            name, UNKNOWN, f"twice the rows make it x {soft.rows:.3g}, twice the classes x {soft.classes:.3g}"
        )
    shown, number = f"the soft term is {in_words(soft)}", soft.classes
    if is_near(soft.classes, 0.5):
        found = facts.match.soft if facts.match else None
        if found is None or found.fix:
            return Finding(name, UNKNOWN, shown, number)
        if not found.per_class:
            return Finding(name, WRONG, shown, number, "Divide by rows alone: F.kl_div(..., reduction='batchmean').")
    if facts.has_hard and facts.hard_shares.is_known():
        hard = facts.hard_shares
        if not (is_near(soft.rows, hard.rows) and is_near(soft.positions, hard.positions)):
            return Finding(
                name,
                WRONG,
                f"{shown}, the hard term {in_words(hard)}",
                soft.rows / hard.rows,
                "Divide both terms by the same count.",
            )
    elif is_near(soft.positions, 1) and is_near(soft.rows, 0.5) and len(facts.probe.shape) == 3:
        return Finding(
            name,
            WRONG,
            shown,
            soft.positions,
            "Flatten positions to rows before F.kl_div: its batchmean divides by sequences.",
        )
    return Finding(name, RIGHT, shown, number)


def in_words(shares: Shares) -> str:
    """Return by what a term is divided, in words.

    Args:
        shares: how its gradient changes with the size of the batch.
    """
    per = {"rows": shares.rows, "classes": shares.classes, "positions": shares.positions}
    divided = [what for what, share in per.items() if is_near(share, 0.5)]
    return f"a mean over {' x '.join(divided)}" if divided else "a sum"


def class_axis(facts: Facts) -> Finding:
    """Say whether both softmaxes run over the classes: a constant along their axis then changes nothing.

    Args:
        facts: what is measured of the loss.
    """
    name = "class_axis"
    if not facts.has_soft:
        return Finding(name, ABSENT, "no soft term")
    largest = 0.0
    for who in ("student", "teacher"):
        changes = [_change_by_constant(facts, who, axis) for axis in range(len(facts.probe.shape))]
        largest = max(largest, changes[-1])
        if changes[-1] > 1e-4 > min(changes):
            axis = changes.index(min(changes))
            return Finding(
                name,
                WRONG,
                f"the {who}'s softmax runs over axis {axis}",
                changes[-1],
                "Write dim=-1 in softmax and log_softmax.",
            )
    shown = f"a constant along the classes changes the soft gradient by {largest:.0e}"
    if largest < 1e-4:
        return Finding(name, RIGHT, shown, largest)
    if facts.match and facts.match.soft and facts.match.soft.on_logits:
        return Finding(name, ABSENT, "no softmax over the classes")
    return Finding(name, UNKNOWN, shown, largest)


def _change_by_constant(facts: Facts, who: str, axis: int) -> float:
    """Return how much the soft gradient changes when a constant is added to logits along an axis."""
    constant = facts.probe.draw(5).student.narrow(axis, 0, 1)
    before = facts.soft_change(facts.example)
    moved = facts.example._replace(**{who: getattr(facts.example, who) + constant})
    return size(facts.soft_change(moved) - before) / max(size(before), 1e-300)


def row_constant(facts: Facts) -> Finding:
    """Say whether a number that is added to all logits of a row changes the gradient.

    Args:
        facts: what is measured of the loss.
    """
    name = "row_constant"
    if facts.match and facts.match.soft and facts.match.soft.on_logits:
        return Finding(name, ABSENT, "no softmax over the classes")
    example, probe = facts.example, facts.probe
    before, shift = probe.gradient(example), probe.draw(5).student[..., :1]
    moved = (example._replace(student=example.student + shift), example._replace(teacher=example.teacher + shift))
    change = max(size(probe.gradient(other) - before) / max(facts.whole, 1e-300) for other in moved)
    shown = f"the gradient changes by {change:.0e}"
    if change < 1e-4:
        return Finding(name, RIGHT, shown, change)
    if facts.match is None:
        return Finding(name, UNKNOWN, shown, change)
    return Finding(
        name, WRONG, shown, change, "Compare softmax(logits / T) of both models: something takes logits as they are."
    )


def equal_models(facts: Facts) -> Finding:
    """Say whether the soft term leaves a student alone that equals its teacher.

    Args:
        facts: what is measured of the loss.
    """
    name = "equal_models"
    if not facts.has_soft:
        return Finding(name, ABSENT, "no soft term")
    example, probe = facts.example, facts.probe
    found = facts.match
    if found and found.soft:
        one = probe.aligned(example)
        parts = [
            found.soft.gradients(z.double(), t.double(), probe.temperature)
            for z, t in ((one.student, one.student), (one.student, one.teacher))
        ]
        pull = [size(sum(w * g for w, g in zip(found.soft_weights, part, strict=True))) for part in parts]  # pyright: ignore[reportArgumentType]
        share = pull[0] / max(pull[1], 1e-300)
    elif facts.has_hard:
        if facts.hard_match is None:
            return Finding(name, UNKNOWN, "the terms cannot be told apart")
        share = facts.hard_match.residual
    else:
        share = size(probe.gradient(example._replace(teacher=example.student))) / max(facts.whole, 1e-300)
    shown = f"the soft gradient is {share:.0e} of its usual size"
    if share < 1e-3:
        return Finding(name, RIGHT, shown, share)
    return Finding(
        name, WRONG, shown, share, "Treat both models alike: the same T, and a softmax over the classes on both sides."
    )


ABOUT_FORMULA = (
    gradient,
    divergence,
    temperature,
    compensation,
    hard_term,
    reduction,
    class_axis,
    row_constant,
    equal_models,
)
