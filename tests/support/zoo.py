# ruff: noqa: N803
"""Losses that people write, right ones and wrong ones, for the tests of ``limbeck.check``."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from limbeck import DistillationLoss, distillation_loss, logit_mse_loss


def kl(s, t, T, reduction="batchmean"):
    return F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction=reduction)


# Right losses, as people write them.


def by_hand(s, t, labels, T, alpha=0.9):
    return alpha * kl(s, t, T) * T * T + (1 - alpha) * F.cross_entropy(s, labels)


def soft_alone(student_logits, teacher_logits, temperature):
    return kl(student_logits, teacher_logits, temperature) * temperature**2


def without_temperature(student_logits, teacher_logits, targets):
    return 0.5 * kl(student_logits, teacher_logits, 1) + 0.5 * F.cross_entropy(student_logits, targets)


def soft_cross_entropy(logits_student, logits_teacher, target, tau):
    return F.cross_entropy(logits_student / tau, (logits_teacher / tau).softmax(-1)) * tau**2 + F.cross_entropy(
        logits_student, target
    )


def log_target(student, teacher, y, T):
    a, b = F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)
    return T * T * F.kl_div(a, b, reduction="batchmean", log_target=True) + F.cross_entropy(student, y)


def reverse(student_logits, teacher_logits, labels, T):
    a, b = F.log_softmax(student_logits / T, -1), F.log_softmax(teacher_logits / T, -1)
    return 0.7 * T**2 * (a.exp() * (a - b)).sum(-1).mean() + 0.3 * F.cross_entropy(student_logits, labels)


def jsd(student_logits, teacher_logits, labels, T, beta=0.3):
    p, q = F.softmax(teacher_logits / T, -1), F.softmax(student_logits / T, -1)
    m = beta * p + (1 - beta) * q
    rows = beta * (p * (p / m).log()).sum(-1) + (1 - beta) * (q * (q / m).log()).sum(-1)
    return T * T * rows.mean() + F.cross_entropy(student_logits, labels)


def symmetric(student_logits, teacher_logits, T):
    a, b = F.log_softmax(student_logits / T, -1), F.log_softmax(teacher_logits / T, -1)
    return T**2 * ((a.exp() - b.exp()) * (a - b)).sum(-1).mean()


def skewed(student_logits, teacher_logits, labels, T):
    p, q = F.softmax(teacher_logits / T, -1), F.softmax(student_logits / T, -1)
    return T**2 * (p * (p / (0.1 * p + 0.9 * q)).log()).sum(-1).mean() + F.cross_entropy(student_logits, labels)


def total_variation(student_logits, teacher_logits, T):
    return T * 0.5 * (F.softmax(teacher_logits / T, -1) - F.softmax(student_logits / T, -1)).abs().sum(-1).mean()


def mse_of_logits(student_logits, teacher_logits, labels):
    return F.mse_loss(student_logits, teacher_logits) + 0.1 * F.cross_entropy(student_logits, labels)


def mse_of_logits_over_t(student_logits, teacher_logits, T):
    return F.mse_loss(student_logits / T, teacher_logits / T) * T**2


def mse_of_probabilities(student_logits, teacher_logits, T):
    return T**2 * F.mse_loss((student_logits / T).softmax(-1), (teacher_logits / T).softmax(-1))


def binary(student_logits, teacher_logits, T):
    return T**2 * F.binary_cross_entropy_with_logits(student_logits / T, (teacher_logits / T).sigmoid())


def standardised(student_logits, teacher_logits, labels, T):
    def standard(z):
        return (z - z.mean(-1, keepdim=True)) / (1e-7 + z.std(-1, keepdim=True))

    return 9 * kl(standard(student_logits), standard(teacher_logits), T) * T**2 + F.cross_entropy(
        student_logits, labels
    )


def decoupled(student_logits, teacher_logits, labels, T):
    """DKD: the true class against the others, and the others among themselves."""
    true = F.one_hot(labels, student_logits.shape[-1]).bool()

    def parts(z):
        p = (z / T).softmax(-1)
        pair = torch.stack([p[true], p[~true].view(len(z), -1).sum(-1)], -1)
        return pair, (z[~true].view(len(z), -1) / T).log_softmax(-1)

    (pair_s, others_s), (pair_t, others_t) = parts(student_logits), parts(teacher_logits)
    soft = F.kl_div(pair_s.log(), pair_t, reduction="batchmean") + 8 * F.kl_div(
        others_s, others_t.exp(), reduction="batchmean"
    )
    return T**2 * soft + F.cross_entropy(student_logits, labels)


def correlation(student_logits, teacher_logits, T):
    """DIST: Pearson's correlation, of classes in a row and of rows in a class."""

    def pearson(a, b):
        return F.cosine_similarity(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), dim=-1).mean()

    p, q = F.softmax(student_logits / T, -1), F.softmax(teacher_logits / T, -1)
    return T**2 * (1 - pearson(p, q)) + T**2 * (1 - pearson(p.T, q.T))


def smoothed(student_logits, teacher_logits, labels, T):
    return kl(student_logits, teacher_logits, T) * T**2 + F.cross_entropy(student_logits, labels, label_smoothing=0.1)


def weighted_classes(student_logits, teacher_logits, labels, T):
    weight = 1 + torch.arange(student_logits.shape[-1], dtype=student_logits.dtype) / student_logits.shape[-1]
    return kl(student_logits, teacher_logits, T) * T**2 + F.cross_entropy(student_logits, labels, weight=weight)


def focal(student_logits, teacher_logits, labels, T):
    nll = F.cross_entropy(student_logits, labels, reduction="none")
    return kl(student_logits, teacher_logits, T) * T**2 + ((1 - (-nll).exp()) ** 2 * nll).mean()


def where_the_teacher_is_right(s, t, labels, T):
    rows = F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1), reduction="none").sum(-1)
    return T**2 * (rows * (t.argmax(-1) == labels)).mean() + F.cross_entropy(s, labels)


def both_sums(student_logits, teacher_logits, labels, T):
    return kl(student_logits, teacher_logits, T, "sum") * T**2 + F.cross_entropy(
        student_logits, labels, reduction="sum"
    )


def of_each_row(student_logits, teacher_logits, T):
    return T**2 * F.kl_div(
        (student_logits / T).log_softmax(-1), (teacher_logits / T).softmax(-1), reduction="none"
    ).sum(-1)


def several_results(student_logits, teacher_logits, labels, T):
    loss = by_hand(student_logits, teacher_logits, labels, T)
    return {"loss": loss, "soft": loss.detach()}


def of_tokens(student_logits, teacher_logits, labels, T):
    """A language model's: positions are rows, -100 is padding in both terms."""
    counted = labels != -100
    s, t = student_logits[counted], teacher_logits[counted].detach()
    return 0.5 * kl(s, t, T) * T**2 + 0.5 * F.cross_entropy(s, labels[counted])


def of_shifted_tokens(student_logits, teacher_logits, labels, T):
    return of_tokens(student_logits[:, :-1], teacher_logits[:, :-1], labels[:, 1:], T)


class KDLoss(nn.Module):
    def __init__(self, T, alpha=0.5):
        super().__init__()
        self.T, self.alpha, self.kl = T, alpha, nn.KLDivLoss(reduction="batchmean")

    def forward(self, y_s, y_t, target):
        soft = self.kl(F.log_softmax(y_s / self.T, 1), F.softmax(y_t / self.T, 1)) * self.T**2
        return self.alpha * soft + (1 - self.alpha) * F.cross_entropy(y_s, target)


RIGHT = [
    *(by_hand, soft_alone, without_temperature, soft_cross_entropy, log_target, reverse, jsd, symmetric, skewed),
    *(total_variation, mse_of_logits, mse_of_logits_over_t, mse_of_probabilities, binary, standardised, decoupled),
    *(
        correlation,
        smoothed,
        weighted_classes,
        focal,
        both_sums,
        of_each_row,
        several_results,
        of_tokens,
        KDLoss,
        KDLoss(3.0),
    ),
    *(distillation_loss, DistillationLoss, logit_mse_loss),
    *(partial(distillation_loss, divergence=name) for name in ("reverse_kl", "jsd", "skew_reverse_kl", "tvd")),
    partial(distillation_loss, alpha=1.0),
    partial(distillation_loss, label_smoothing=0.2, reduction="sum"),
]
RIGHT_ON_SEQUENCES = [of_tokens, of_shifted_tokens, distillation_loss]


# Wrong losses: each with the property that names it.


def no_t_squared(s, t, labels, T):
    return 0.9 * kl(s, t, T) + 0.1 * F.cross_entropy(s, labels)


def t_once(s, t, labels, T):
    return 0.9 * T * kl(s, t, T) + 0.1 * F.cross_entropy(s, labels)


def t_squared_twice(s, t, labels, T):
    return 0.9 * T**4 * kl(s, t, T) + 0.1 * F.cross_entropy(s, labels)


def t_squared_on_all(s, t, labels, T):
    return (0.9 * kl(s, t, T) + 0.1 * F.cross_entropy(s, labels)) * T**2


def t_squared_on_the_hard_term(s, t, labels, T):
    return 0.9 * kl(s, t, T) + 0.1 * F.cross_entropy(s, labels) * T**2


def mse_with_t_squared(s, t, labels, T):
    return T**2 * F.mse_loss(s, t) + F.cross_entropy(s, labels)


def hard_term_at_t(s, t, labels, T):
    return 0.9 * kl(s, t, T) * T**2 + 0.1 * F.cross_entropy(s / T, labels)


def t_on_the_teacher_alone(s, t, labels, T):
    return 0.9 * T**2 * F.kl_div(s.log_softmax(-1), (t / T).softmax(-1), reduction="batchmean") + 0.1 * F.cross_entropy(
        s, labels
    )


def t_on_the_student_alone(s, t, labels, T):
    return 0.9 * T**2 * F.kl_div((s / T).log_softmax(-1), t.softmax(-1), reduction="batchmean") + 0.1 * F.cross_entropy(
        s, labels
    )


def t_unused(s, t, labels, T):
    return 0.9 * T**2 * kl(s, t, 1) + 0.1 * F.cross_entropy(s, labels)


def t_twice(s, t, labels, T):
    return T**2 * kl(s / T, t / T, T) + F.cross_entropy(s, labels)


def t_multiplies(s, t, T):
    return kl(s * T, t * T, 1)


def mean_over_classes(s, t, labels, T):
    return 0.9 * T**2 * kl(s, t, T, "mean") + 0.1 * F.cross_entropy(s, labels)


def sum_and_mean(s, t, labels, T):
    return 0.9 * T**2 * kl(s, t, T, "sum") + 0.1 * F.cross_entropy(s, labels)


def softmax_over_the_batch(s, t, labels, T):
    return T**2 * F.kl_div((s / T).log_softmax(0), (t / T).softmax(0), reduction="batchmean") + F.cross_entropy(
        s, labels
    )


def teachers_softmax_over_the_batch(s, t, T):
    return T**2 * F.kl_div((s / T).log_softmax(-1), (t / T).softmax(0), reduction="batchmean")


def log_of_teacher_as_target(s, t, labels, T):
    return T**2 * F.kl_div((s / T).log_softmax(-1), (t / T).log_softmax(-1), reduction="batchmean") + F.cross_entropy(
        s, labels
    )


def logits_as_target(s, t, labels, T):
    return T**2 * F.kl_div((s / T).log_softmax(-1), t / T, reduction="batchmean") + F.cross_entropy(s, labels)


def probabilities_of_the_student(s, t, labels, T):
    return T**2 * F.kl_div((s / T).softmax(-1), (t / T).softmax(-1), reduction="batchmean") + F.cross_entropy(s, labels)


def logits_of_the_student(s, t, T):
    return T**2 * F.kl_div(s / T, (t / T).softmax(-1), reduction="batchmean")


def softmax_twice(s, t, labels, T):
    return T**2 * kl(s.softmax(-1), t.softmax(-1), T) + F.cross_entropy(s, labels)


def softmax_twice_in_the_hard_term(s, t, labels, T):
    return T**2 * kl(s, t, T) + F.cross_entropy(s.softmax(-1), labels)


def nll_of_probabilities(s, t, labels, T):
    return T**2 * kl(s, t, T) + F.nll_loss(s.softmax(-1), labels)


def nll_of_logits(s, t, labels, T):
    return T**2 * kl(s, t, T) + F.nll_loss(s, labels)


def away_from_the_teacher(s, t, labels, T):
    return -(T**2) * kl(s, t, T) + F.cross_entropy(s, labels)


def detached_student(s, t, T):
    return T**2 * kl(s.detach(), t, T)


def no_teacher(s, t, labels, T, alpha=0.0):
    return alpha * kl(s, t, T) * T**2 + (1 - alpha) * F.cross_entropy(s, labels)


def overwrites_the_teacher(s, t, labels, T):
    t -= t.max(-1, keepdim=True).values
    return kl(s, t, T) * T**2 + F.cross_entropy(s, labels)


def overwrites_the_student(s, t, T):
    s /= T
    return kl(s, t / T, 1) * T**2


def counts_padding_below(s, t, labels, T):
    counted = labels != -100
    rows = F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1), reduction="none").sum(-1)
    return T**2 * (rows * counted).mean() + F.cross_entropy(s, labels)


def padding_is_class_0(s, t, labels, T):
    return T**2 * kl(s, t, T) + F.cross_entropy(s, labels.clamp(min=0))


def divides_by_sequences(s, t, T):
    return T**2 * kl(s, t, T)


def softmax_over_positions(s, t, T):
    return T**2 * F.kl_div((s / T).log_softmax(1), (t / T).softmax(1), reduction="sum") / s[..., 0].numel()


def soft_by_sequences_hard_by_positions(s, t, labels, T):
    return T**2 * kl(s, t, T) + F.cross_entropy(s.flatten(0, 1), labels.flatten())


def padding_in_the_soft_term(s, t, labels, T):
    s, t, labels = s.flatten(0, 1), t.flatten(0, 1), labels.flatten()
    return T**2 * kl(s, t, T) + F.cross_entropy(s, labels)


WRONG = [
    (no_t_squared, "compensation"),
    (t_once, "compensation"),
    (t_squared_twice, "compensation"),
    (t_squared_on_all, "hard_term"),
    (t_squared_on_the_hard_term, "hard_term"),
    (t_squared_on_the_hard_term, "compensation"),
    (mse_with_t_squared, "compensation"),
    (partial(distillation_loss, compensate=False), "compensation"),
    (hard_term_at_t, "hard_term"),
    (t_on_the_teacher_alone, "temperature"),
    (t_on_the_teacher_alone, "equal_models"),
    (t_on_the_student_alone, "temperature"),
    (t_unused, "temperature"),
    (t_twice, "temperature"),
    (t_multiplies, "temperature"),
    (mean_over_classes, "reduction"),
    (sum_and_mean, "reduction"),
    (softmax_over_the_batch, "class_axis"),
    (teachers_softmax_over_the_batch, "class_axis"),
    (log_of_teacher_as_target, "divergence"),
    (logits_as_target, "divergence"),
    (logits_as_target, "row_constant"),
    (probabilities_of_the_student, "divergence"),
    (logits_of_the_student, "divergence"),
    (softmax_twice, "divergence"),
    (softmax_twice_in_the_hard_term, "hard_term"),
    (nll_of_probabilities, "hard_term"),
    (nll_of_logits, "hard_term"),
    (away_from_the_teacher, "divergence"),
    (detached_student, "gradient"),
    (no_teacher, "gradient"),
    (overwrites_the_teacher, "inputs_kept"),
    (overwrites_the_student, "inputs_kept"),
    (counts_padding_below, "padding"),
    (padding_is_class_0, "padding"),
]
WRONG_ON_SEQUENCES = [
    (divides_by_sequences, "reduction"),
    (softmax_over_positions, "class_axis"),
    (soft_by_sequences_hard_by_positions, "reduction"),
    (padding_in_the_soft_term, "padding"),
]


# Right on ordinary input: each with the property that names its limit.


def small_vocabularies(s, t, T):
    assert s.shape[-1] <= 131_072, "too many classes"
    return kl(s, t, T) * T**2


def log_of_softmax(s, t, labels, T):
    p = (t / T).softmax(-1)
    return -T * T * (p * (s / T).softmax(-1).log()).sum(-1).mean() + F.cross_entropy(s, labels)


def constant_without_labels(s, t, labels, T):
    counted = labels != -100
    if not counted.any():
        return torch.tensor(0.0)
    return kl(s[counted], t[counted], T) * T**2


LIMITED = [
    (by_hand, "minus_infinity"),
    (by_hand, "nothing_counted"),
    (by_hand, "padding"),
    (by_hand, "bfloat16"),
    (by_hand, "teacher_gradient"),
    (soft_cross_entropy, "value"),
    (correlation, "batch_split"),
    (log_of_softmax, "large_logits"),
    (constant_without_labels, "nothing_counted"),
]
