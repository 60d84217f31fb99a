"""What runs on the GPU: one program for each row, in three passes that ``triton`` describes.

Exponents and logarithms are in units of log 2, so that each of them is one instruction.
"""

# ruff: noqa: ARG001, N803, RUF059, SIM109  (Triton compiles a part of Python, and knows constants by capital letters)

from __future__ import annotations

import triton
import triton.language as tl

FORWARD_KL = tl.constexpr(0)
REVERSE_KL = tl.constexpr(1)
TERMS_AND_SLOPES = tl.constexpr(2)
ON_LOGITS = tl.constexpr(3)
CENTRED_LOGITS = tl.constexpr(4)
NO_SOFT_TERM = tl.constexpr(5)
"""The kinds of soft term, which ``loss_kernel`` is compiled for."""
LOG2_E = tl.constexpr(1.4426950408889634)
CLOSE = tl.constexpr(5e-3)
"""The KL of a row below which a plain sum loses digits that count."""
NEAR, NEAR_IN_FLOAT64 = tl.constexpr(0.25), tl.constexpr(4e-3)
"""The size below which power series are used: their error is then a millionth, and nothing."""


@triton.jit
def scale_kernel(gradient, upstream, classes, stride, PER_ROW: tl.constexpr, BLOCK: tl.constexpr):
    """Multiply a block of a row by one number, or by the number of its row; do nothing if that is 1."""
    row = tl.program_id(0).to(tl.int64)
    factor = tl.load(upstream + row) if PER_ROW else tl.load(upstream)
    if factor != 1:
        cols = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        at = gradient + row * stride + cols
        value = tl.load(at, mask=cols < classes)
        tl.store(at, (value * factor).to(value.dtype), mask=cols < classes)


@triton.jit
def no_terms(d, p_s, p_t):
    """Stand in for the divergence where there is no soft term."""
    return d, d


@triton.jit
def exp(x):
    """Return e^x."""
    return tl.exp2(x * LOG2_E)


@triton.jit
def log(x):
    """Return the natural logarithm."""
    return tl.log2(x) / LOG2_E


@triton.jit
def minimum(x, bound):
    """Return the smaller of both."""
    return tl.minimum(x, bound)


@triton.jit
def sign(x):
    """Return 1, -1 or 0."""
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _is_near(x):
    return tl.abs(x) < (NEAR_IN_FLOAT64 if x.dtype == tl.float64 else NEAR)


@triton.jit
def _excess_of_exp(x):
    """Return e^x - 1 - x for small x."""
    return x * x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720)))))


@triton.jit
def minus_expm1(x):
    """Return 1 - e^x with all its digits."""
    return tl.where(_is_near(x), -(x + _excess_of_exp(x)), 1 - exp(x))


@triton.jit
def _log1p(x):
    """Return log(1 + x) with all its digits: the error of 1 + x is taken back."""
    u = 1 + x
    return tl.where(u == 1, x, log(u) * (x / tl.where(u == 1, 1.0, u - 1)))


@triton.jit
def mixture(p, q, fraction):
    """Return fraction p + (1 - fraction) q."""
    return fraction * p + (1 - fraction) * q


@triton.jit
def difference(p, q, ratio):
    """Return q - p with all its digits; the ratio is log(p / q)."""
    return tl.where(_is_near(ratio), p * (_excess_of_exp(-ratio) - ratio), q - p)


@triton.jit
def relative_entropy(p, q, ratio):
    """Return p log(p / q) + q - p with all its digits; the ratio is log(p / q)."""
    return tl.where(_is_near(ratio), p * _excess_of_exp(-ratio), q - p + tl.where(p == 0, 0.0, p * ratio))


@triton.jit
def log_mixture(ratio, fraction):
    """Return log(fraction e^ratio + 1 - fraction) with all its digits."""
    below = _log1p(-fraction * minus_expm1(tl.minimum(ratio, 0.0)))
    above = tl.maximum(ratio, 0.0) + _log1p(-(1 - fraction) * minus_expm1(tl.minimum(-ratio, 0.0)))
    return tl.where(ratio <= 0, below, above)


@triton.jit
def _finite(x):
    """Return a maximum to subtract: 0 in the place of -inf."""
    return tl.where(x == -float("inf"), 0.0, x)


@triton.jit
def _load(row, cols, classes, ACC: tl.constexpr):
    """Return logits of a row, -inf past its end."""
    return tl.load(row + cols, mask=cols < classes, other=-float("inf")).to(ACC)


@triton.jit
def _log_ratio(s, t, k_s, k_t, shift):
    """Return log(p_t / p_s) from the logits and what all classes of a row share; finite, and 0 where both lack the class."""
    finite_s, finite_t = _finite(s), _finite(t)
    d = ((finite_t - finite_s) * k_t + finite_s * (k_t - k_s)) / LOG2_E - shift
    lacks_s, lacks_t = s == -float("inf"), t == -float("inf")
    d = tl.where(lacks_s, tl.where(lacks_t, 0.0, 1e4), tl.where(lacks_t, -1e4, d))
    return tl.minimum(tl.maximum(d, -1e4), 1e4)


@triton.jit
def _exact_shift(
    s_row, t_row, classes, k_s, k_t, less_s, less_t, log_s, zero, ACC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Return what ``_log_ratio`` subtracts in a row of two close distributions, with all its digits."""
    rough = ((less_t - less_s) * k_t + less_s * (k_t - k_s)) / LOG2_E
    excess = zero
    for i in range(tl.cdiv(classes, BLOCK)):
        cols = i * BLOCK + tl.arange(0, BLOCK)
        s, t = _load(s_row, cols, classes, ACC), _load(t_row, cols, classes, ACC)
        d = tl.minimum(_log_ratio(s, t, k_s, k_t, rough), 80.0)
        excess -= tl.sum(tl.exp2((s - less_s) * k_s - log_s) * minus_expm1(d), 0)
    return rough + _log1p(excess)


@triton.jit
def _first_pass(
    s_row, t_row, y_row, classes, k_s, k_t, zero,
    KIND: tl.constexpr, EPS: tl.constexpr, POWER: tl.constexpr, HAS_LABELS: tl.constexpr, HAS_ROWS: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return ten numbers of a row, the first six relative to the running maxima of its logits.

    They are max s and max t (-inf for a row without any class); sum e^x_s, sum e^x_t, sum e^s and the KL's own sum; the number
    of present classes, and the sum of their logits; of a label row, sum y s and sum y. For divergences on logits ``sum_t`` is
    the number of classes that at least one model has, and ``cross`` the sum of their differences.
    """
    minus_inf = -float("inf")
    max_s, max_t = zero + minus_inf, zero + minus_inf
    sum_s, sum_t, sum_1, cross, present, logits, at_label, mass = zero, zero, zero, zero, zero, zero, zero, zero
    for i in range(tl.cdiv(classes, BLOCK)):
        cols = i * BLOCK + tl.arange(0, BLOCK)
        s = _load(s_row, cols, classes, ACC)
        top_s = tl.maximum(max_s, tl.max(s, 0))
        less_s = _finite(top_s)
        x_s = (s - less_s) * k_s
        e_s = tl.exp2(x_s)
        down_s = tl.where(max_s == minus_inf, 0.0, (max_s - less_s) * k_s)
        if HAS_LABELS:
            if POWER == 1:
                e_1 = e_s
            elif POWER == 2:
                e_1 = e_s * e_s
            else:
                e_1 = tl.exp2((s - less_s) * LOG2_E)
            down_1 = tl.where(max_s == minus_inf, 0.0, (max_s - less_s) * LOG2_E)
            sum_1 = sum_1 * tl.exp2(down_1) + tl.sum(e_1, 0)
            if EPS > 0:
                here = s != minus_inf
                present += tl.sum(here.to(ACC), 0)
                logits += tl.sum(tl.where(here, s, 0.0), 0)
            if HAS_ROWS:
                y = tl.load(y_row + cols, mask=cols < classes, other=0.0)
                at_label += tl.sum(tl.where(y == 0, 0.0, y * s), 0)
                mass += tl.sum(y, 0)
        if KIND != NO_SOFT_TERM:
            t = _load(t_row, cols, classes, ACC)
            if KIND == ON_LOGITS or KIND == CENTRED_LOGITS:
                both = (s == minus_inf) & (t == minus_inf)
                sum_t += tl.sum(tl.where(both, 0.0, 1.0), 0)
                cross += tl.sum(tl.where(both, 0.0, t - s), 0)
            else:
                top_t = tl.maximum(max_t, tl.max(t, 0))
                less_t = _finite(top_t)
                x_t = (t - less_t) * k_t
                e_t = tl.exp2(x_t)
                down_t = tl.where(max_t == minus_inf, 0.0, (max_t - less_t) * k_t)
                if KIND == FORWARD_KL or KIND == TERMS_AND_SLOPES:
                    cross = (cross + (down_t - down_s) * sum_t) * tl.exp2(down_t)
                    cross += tl.sum(tl.where(e_t == 0, 0.0, e_t * (x_t - x_s)), 0)
                if KIND == REVERSE_KL:
                    cross = (cross + (down_s - down_t) * sum_s) * tl.exp2(down_s)
                    cross += tl.sum(tl.where(e_s == 0, 0.0, e_s * (x_s - x_t)), 0)
                sum_t = sum_t * tl.exp2(down_t) + tl.sum(e_t, 0)
                max_t = top_t
        sum_s = sum_s * tl.exp2(down_s) + tl.sum(e_s, 0)
        max_s = top_s
    return max_s, max_t, sum_s, sum_t, sum_1, cross, present, logits, at_label, mass


@triton.jit
def _second_pass(
    s_row, t_row, classes, k_s, k_t, less_s, less_t, log_s, log_t, shift, mean, sum_t, zero,
    KIND: tl.constexpr, DIVERGENCE: tl.constexpr, PARAMETERS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return the sums of the divergence's terms and slopes."""
    term_sum, slope_sum = zero, zero
    for i in range(tl.cdiv(classes, BLOCK)):
        cols = i * BLOCK + tl.arange(0, BLOCK)
        s, t = _load(s_row, cols, classes, ACC), _load(t_row, cols, classes, ACC)
        if KIND == TERMS_AND_SLOPES:
            a, b = (s - less_s) * k_s - log_s, (t - less_t) * k_t - log_t
            d = _log_ratio(s, t, k_s, k_t, shift)
            terms, slopes = DIVERGENCE(d, tl.exp2(a), tl.exp2(b), *PARAMETERS)
            slope_sum += tl.sum(slopes, 0)
        else:
            both = (s == -float("inf")) & (t == -float("inf"))
            d = tl.where(both, 0.0, t - s - mean)
            terms, slopes = DIVERGENCE(d, 1 / sum_t, 1 / sum_t, *PARAMETERS)
        term_sum += tl.sum(terms, 0)
    return term_sum, slope_sum


@triton.jit
def _soft_gradient(
    s, t, p_s, k_s, k_t, less_t, log_t, shift, mean, sum_t, slope_sum, scale, close,
    KIND: tl.constexpr, DIVERGENCE: tl.constexpr, PARAMETERS: tl.constexpr,
):  # fmt: skip
    """Return the scaled gradient of the soft term for one block of a row."""
    if KIND == ON_LOGITS or KIND == CENTRED_LOGITS:
        both = (s == -float("inf")) & (t == -float("inf"))
        terms, slopes = DIVERGENCE(tl.where(both, 0.0, t - s - mean), 1 / sum_t, 1 / sum_t, *PARAMETERS)
        g = scale * slopes
    else:
        p_t = tl.exp2((t - less_t) * k_t - log_t)
        g = scale * (p_s - p_t)
        if KIND != FORWARD_KL or close:
            terms, slopes = DIVERGENCE(_log_ratio(s, t, k_s, k_t, shift), p_s, p_t, *PARAMETERS)
            g = scale * (slopes - p_s * slope_sum)
    return g


@triton.jit
def _gradient_pass(
    s_row, t_row, y_row, g_row, classes, k_s, k_t, less_s, less_t, log_s, log_t, shift, mean, sum_t, sum_1, slope_sum,
    present, label, mass, soft_scale, hard_scale, close, zero,
    KIND: tl.constexpr, DIVERGENCE: tl.constexpr, PARAMETERS: tl.constexpr, EPS: tl.constexpr, POWER: tl.constexpr,
    HAS_LABELS: tl.constexpr, HAS_ROWS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a row, from its end, which was read last and may still be in cache."""
    blocks = tl.cdiv(classes, BLOCK)
    for j in range(blocks):
        cols = (blocks - 1 - j) * BLOCK + tl.arange(0, BLOCK)
        s = _load(s_row, cols, classes, ACC)
        g = tl.zeros((BLOCK,), ACC)
        p_s = tl.exp2((s - less_s) * k_s - log_s)
        if KIND != NO_SOFT_TERM:
            t = _load(t_row, cols, classes, ACC)
            g = _soft_gradient(
                s, t, p_s, k_s, k_t, less_t, log_t, shift, mean, sum_t, slope_sum, soft_scale, close,
                KIND, DIVERGENCE, PARAMETERS,
            )  # fmt: skip
        if HAS_LABELS:
            p_1 = p_s if POWER == 1 else tl.exp2((s - less_s) * LOG2_E) / sum_1
            if HAS_ROWS:
                y = tl.load(y_row + cols, mask=cols < classes, other=0.0)
                g += hard_scale * (p_1 * ((1 - EPS) * mass + EPS) - (1 - EPS) * y)
            else:
                g += hard_scale * (p_1 - tl.where(cols == label, zero + (1 - EPS), zero))
            if EPS > 0:
                g -= hard_scale * EPS / present
        g = tl.where(s == -float("inf"), 0.0, g)  # a logit of -inf stays where it is
        tl.store(g_row + cols, g.to(g_row.dtype.element_ty), mask=cols < classes)


@triton.jit
def _write_zeros(g_row, classes, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """Write a gradient of 0 for a row."""
    for i in range(tl.cdiv(classes, BLOCK)):
        cols = i * BLOCK + tl.arange(0, BLOCK)
        tl.store(g_row + cols, tl.zeros((BLOCK,), ACC).to(g_row.dtype.element_ty), mask=cols < classes)


@triton.jit
def loss_kernel(
    student, teacher, labels, labelled, numbers, values, gradient, count, classes, length,
    sequence_s, stride_s, sequence_t, stride_t, sequence_g, stride_g,
    KIND: tl.constexpr, DIVERGENCE: tl.constexpr, PARAMETERS: tl.constexpr, EPS: tl.constexpr, POWER: tl.constexpr,
    HAS_LABELS: tl.constexpr, HAS_ROWS: tl.constexpr, HAS_LABELLED: tl.constexpr, HAS_GRADIENT: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the soft and hard values of one row into ``values``, (2, N), and its gradient."""
    row = tl.program_id(0).to(tl.int64)
    t_s, t_t, compensation = tl.load(numbers + row), tl.load(numbers + count + row), tl.load(numbers + 2 * count + row)
    soft_scale, hard_scale = tl.load(numbers + 3 * count + row), tl.load(numbers + 4 * count + row)
    sequence, position = row // length, row % length
    s_row = student + sequence * sequence_s + position * stride_s
    t_row = teacher + sequence * sequence_t + position * stride_t
    g_row = gradient + sequence * sequence_g + position * stride_g
    y_row = labels + row * classes if HAS_ROWS else labels
    if (soft_scale == 0) & (hard_scale == 0):  # a row that does not count is not read, and its value stays 0
        if HAS_GRADIENT:
            _write_zeros(g_row, classes, ACC, BLOCK)
        return

    k_s, k_t, zero = LOG2_E / t_s, LOG2_E / t_t, t_s * 0
    max_s, max_t, sum_s, sum_t, sum_1, cross, present, logits, at_label, mass = _first_pass(
        s_row, t_row, y_row, classes, k_s, k_t, zero, KIND, EPS, POWER, HAS_LABELS, HAS_ROWS, ACC, BLOCK
    )
    less_s, less_t = _finite(max_s), _finite(max_t)
    log_s, log_t = tl.log2(sum_s), tl.log2(sum_t)
    soft, slope_sum, mean, shift = zero, zero, zero, zero
    close = KIND < 0
    if KIND == FORWARD_KL or KIND == TERMS_AND_SLOPES:
        soft = (cross / sum_t + log_s - log_t) / LOG2_E
    if KIND == REVERSE_KL:
        soft = (cross / sum_s - log_s + log_t) / LOG2_E
        slope_sum = soft
    if KIND == CENTRED_LOGITS:
        mean = cross / sum_t
    if KIND == FORWARD_KL or KIND == REVERSE_KL or KIND == TERMS_AND_SLOPES:
        shift = ((less_t - less_s) * k_t + less_s * (k_t - k_s) + log_t - log_s) / LOG2_E
        close = soft < CLOSE
        if close:
            shift = _exact_shift(s_row, t_row, classes, k_s, k_t, less_s, less_t, log_s, zero, ACC, BLOCK)
            if KIND != TERMS_AND_SLOPES:
                soft, slope_sum = _second_pass(
                    s_row, t_row, classes, k_s, k_t, less_s, less_t, log_s, log_t, shift, mean, sum_t, zero,
                    TERMS_AND_SLOPES, DIVERGENCE, PARAMETERS, ACC, BLOCK,
                )  # fmt: skip
    if KIND == TERMS_AND_SLOPES or KIND == ON_LOGITS or KIND == CENTRED_LOGITS:
        soft, slope_sum = _second_pass(
            s_row, t_row, classes, k_s, k_t, less_s, less_t, log_s, log_t, shift, mean, sum_t, zero,
            KIND, DIVERGENCE, PARAMETERS, ACC, BLOCK,
        )  # fmt: skip
    tl.store(values + row, soft * compensation)

    label = tl.full((), -1, tl.int64)
    if HAS_LABELS:
        log_sum = less_s + tl.log2(sum_1) / LOG2_E
        if HAS_ROWS:
            hard = ((1 - EPS) * mass + EPS) * log_sum - (1 - EPS) * at_label
        else:
            label = tl.load(labels + row)
            hard = log_sum - (1 - EPS) * tl.load(s_row + label).to(ACC)
        if EPS > 0:
            hard -= EPS * logits / present
        if HAS_LABELLED:
            has = tl.load(labelled + row) != 0
            hard = tl.where(has, hard, 0.0)
            hard_scale = tl.where(has, hard_scale, 0.0)
        tl.store(values + count + row, hard)

    if HAS_GRADIENT:
        soft_scale = soft_scale * compensation
        if KIND != ON_LOGITS and KIND != CENTRED_LOGITS:
            soft_scale = soft_scale / t_s
        _gradient_pass(
            s_row, t_row, y_row, g_row, classes, k_s, k_t, less_s, less_t, log_s, log_t, shift, mean, sum_t, sum_1, slope_sum,
            present, label, mass, soft_scale, hard_scale, close, zero, KIND, DIVERGENCE, PARAMETERS, EPS, POWER, HAS_LABELS,
            HAS_ROWS, ACC, BLOCK,
        )  # fmt: skip
