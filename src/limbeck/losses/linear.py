"""The loss from hidden states: the projection to the vocabulary is part of it, and the logits are never whole."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from limbeck.kernels import cpu
from limbeck.kernels.call import Plan, Sweep
from limbeck.kernels.linear import Head, Projection, linear_loss, rows_in_chunk
from limbeck.losses.dispatch import Call, Compensate, kernel_for, plan_of, weighted
from limbeck.losses.divergences import Divergence
from limbeck.losses.functional import LossParts, Reduction, Temperature, prepare


def linear_distillation_loss(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor | None,
    teacher_weight: Tensor | None,
    labels: Tensor | None = None,
    *,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    vocab_size: int | None = None,
    chunk: int | Literal["auto"] = "auto",
    temperature: Temperature = 4.0,
    alpha: float = 0.5,
    divergence: str | Divergence = "forward_kl",
    beta: float = 0.5,
    skew: float = 0.1,
    compensate: Compensate = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Tensor | float | None = None,
    backend: str = "auto",
    group: ProcessGroup | None = None,
    return_parts: bool = False,
) -> Tensor | LossParts:
    r"""``distillation_loss`` of two language models, from their last hidden states and output embeddings.

        student_logits = softcap * tanh( logit_scale * (student_hidden @ student_weight^T + student_bias) / softcap )

    and alike for the teacher; then as ``distillation_loss``. The logits exist for ``chunk`` positions at a time, and
    positions that do not count are dropped before they are projected. The memory taken is that of the gradients and of
    two chunks of logits. A half-precision product leaves the hardware in float32 where that can be had (CUDA), so that
    the difference of two close distributions is not rounded away; a CPU multiplies half-precision weights in float32.

    Args:
        student_hidden: (..., d_s), any floating dtype: what the student's last layer is given. Receives gradient, and so do
            ``student_weight`` and ``student_bias``; what needs none costs nothing.
        student_weight: (V, d_s), the output embedding (``model.lm_head.weight``).
        teacher_hidden: (..., d_t). The teacher never receives gradient. None only with ``alpha=0``.
        teacher_weight: (V, d_t).
        labels: (...,) integers, aligned with the hidden states: for next-token prediction shift them first, as in
            ``hidden[:, :-1]`` with ``input_ids[:, 1:]``.
        student_bias: (V,).
        teacher_bias: (V,).
        student_softcap: Gemma 2's ``final_logit_softcapping``.
        teacher_softcap: the same of the teacher.
        student_logit_scale: a factor on the logits, as Cohere's ``logit_scale``; 1 / ``logits_scaling`` for Granite.
        teacher_logit_scale: the same of the teacher.
        vocab_size: the number of classes that both models share; further rows of either weight are padding and take no
            part. Needed when the weights differ in their rows. By default all rows.
        chunk: positions whose logits are held at a time; "auto" takes a power of two that fits a budget.
        temperature: as in ``distillation_loss``, and so are the following; a temperature cannot ask for gradient here.
        reduction: with "none" the gradients are computed in the backward pass, which projects again; "mean" and "sum"
            have them from the forward pass.
        backend: "auto", "reference" (the loss of a chunk in plain torch), "rows" or "triton".
        group: as in ``distillation_loss``: each rank holds consecutive rows of both weights, and the same hidden states. The
            gradient of ``student_hidden`` is summed over the group; ``vocab_size`` and ``weight`` are the rank's own.

    Returns:
        As ``distillation_loss``.

    Raises:
        TypeError, ValueError: an argument of a wrong type, shape or range; the message names it and the remedy.

    References:
        The chunked projection is as in Liger-Kernel (Hsu et al., 2024, arXiv 2410.10989).

    Example:
        >>> import torch
        >>> from limbeck import linear_distillation_loss
        >>> student, teacher = torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(4, 3, bias=False)
        >>> _ = torch.nn.init.eye_(student.weight), torch.nn.init.eye_(teacher.weight)
        >>> hidden = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> loss = linear_distillation_loss(
        ...     hidden, student.weight, torch.tensor([[0.5, 3.0, -1.0, 0.0]]), teacher.weight, torch.tensor([1])
        ... )
        >>> loss.backward()
        >>> print(f"{loss.item():.4f}", tuple(hidden.grad.shape), tuple(student.weight.grad.shape))
        0.3935 (1, 2) (3, 2)
    """
    heads: dict[str, tuple[Any, Any, Any]] = {"student": (student_hidden, student_weight, student_bias)}
    if teacher_hidden is not None or teacher_weight is not None or alpha > 0:
        heads["teacher"] = (teacher_hidden, teacher_weight, teacher_bias)
    for model, (hidden, matrix, bias) in heads.items():
        check_head(model, hidden, matrix, bias)
    classes = _classes({model: len(matrix) for model, (_, matrix, _) in heads.items()}, vocab_size)
    if any(isinstance(t, Tensor) and t.requires_grad for t in _sides(temperature)):
        raise ValueError(
            "temperature: it asks for gradient, which the fused projection does not give. Use distillation_loss on the logits."
        )

    student, teacher = (
        None if model not in heads else as_logits(heads[model][0], classes) for model in ("student", "teacher")
    )
    assert student is not None
    call, weights = prepare(
        student, teacher, labels, temperature=temperature, alpha=alpha, divergence=divergence, beta=beta,
        skew=skew, compensate=compensate, label_smoothing=label_smoothing, ignore_index=ignore_index, mask=mask,
        weight=weight, reduction=reduction, num_items=num_items, backend=backend, group=group, parts=return_parts,
    )  # fmt: skip
    plan = plan_of(call, weights, alpha, inplace=True, summed=reduction != "none")
    teacher_head = None
    if call.teacher is not None and teacher_weight is not None:
        teacher_head = Head(teacher_weight, teacher_bias, teacher_logit_scale, teacher_softcap)
    head = Head(student_weight, student_bias, student_logit_scale, student_softcap)
    sweep = kernel_for(call, backend, group) or cpu.exact_sweep
    return project(
        student_hidden, head, teacher_hidden, teacher_head, call, plan, sweep, classes, chunk, return_parts, group
    )


def project(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor | None,
    teacher_head: Head | None,
    call: Call,
    plan: Plan,
    sweep: Sweep,
    classes: int,
    chunk: int | Literal["auto"],
    parts: bool,
    group: ProcessGroup | None = None,
) -> Tensor | LossParts:
    """The positions that count as rows, through the kernel, and back to the positions' shape."""
    for model, cap in (("student", head.softcap), ("teacher", teacher_head and teacher_head.softcap)):
        if cap is not None and not cap > 0:
            raise ValueError(f"{model}_softcap: expected a positive number or None, got {cap!r}.")
    if chunk != "auto" and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk: expected 'auto' or a positive number of positions, got {chunk!r}.")
    student_rows, kept = _rows(hidden), None
    teacher_rows = None if teacher_hidden is None or teacher_head is None else _rows(teacher_hidden.detach())
    if call.counted is not None:
        kept = call.counted.nonzero().squeeze(-1)
        plan, student_rows = plan.part(kept), student_rows.index_select(0, kept)
        teacher_rows = None if teacher_rows is None else teacher_rows.index_select(0, kept)
    projection = Projection(
        head=head,
        teacher_hidden=teacher_rows,
        teacher_head=teacher_head,
        classes=classes,
        plan=plan,
        sweep=sweep,
        chunk=rows_in_chunk(classes, hidden.device) if chunk == "auto" else chunk,
        group=group,
    )
    with torch.autocast(hidden.device.type, enabled=False):
        total, soft, hard = linear_loss(student_rows, projection)
    values: list[Tensor | None] = [total]
    for term, given in ((soft, call.teacher), (hard, call.labels)):
        values.append(weighted(term, plan.weights, plan.summed) if parts and given is not None else None)
    if not plan.summed:
        values = [None if term is None else _spread(term, kept, hidden.shape[:-1]) for term in values]
    assert values[0] is not None
    return LossParts(values[0], *values[1:]) if parts else values[0]


def _sides(temperature: Temperature) -> tuple[Any, ...]:
    return tuple(temperature) if isinstance(temperature, tuple | list) else (temperature,)


def check_head(model: str, hidden: Any, weight: Any, bias: Any) -> None:
    """Hidden states (..., d), weight (V, d) and bias (V,) of one model."""
    for name, given in ((f"{model}_hidden", hidden), (f"{model}_weight", weight), (f"{model}_bias", bias)):
        if given is None and name.endswith("bias"):
            continue
        if not isinstance(given, Tensor) or not given.is_floating_point():
            got = given.dtype if isinstance(given, Tensor) else type(given).__name__
            needed = " Only alpha=0 does without a teacher." if given is None and model == "teacher" else ""
            raise TypeError(f"{name}: expected a floating-point tensor, got {got}.{needed}")
    if weight.dim() != 2 or hidden.dim() == 0 or weight.shape[1] != hidden.shape[-1] or len(weight) == 0:
        raise ValueError(
            f"{model}_weight: expected (V, d) with d = {tuple(hidden.shape)[-1:]} as in {model}_hidden, "
            f"got {tuple(weight.shape)}. torch.nn.Linear keeps its weight that way round."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{model}_bias: expected one number per class, ({len(weight)},), got {tuple(bias.shape)}.")
    if weight.device != hidden.device:
        raise ValueError(
            f"{model}_weight: on {weight.device}, but {model}_hidden is on {hidden.device}. Move one of them."
        )


def _classes(sizes: dict[str, int], vocab_size: int | None) -> int:
    """How many classes the weights share."""
    smallest = min(sizes.values())
    if vocab_size is None:
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"teacher_weight: {sizes['teacher']} classes, but student_weight has {sizes['student']}. If one vocabulary is "
                f"the other plus padding, say so by vocab_size={smallest}. Different tokenizers cannot be compared "
                "class by class."
            )
        return smallest
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or not 1 <= vocab_size <= smallest:
        raise ValueError(f"vocab_size: expected a number of classes from 1 to {smallest}, got {vocab_size!r}.")
    return vocab_size


def as_logits(hidden: Tensor, classes: int) -> Tensor:
    """What has the shape, dtype and device of the logits, and takes no memory."""
    return hidden.detach().new_empty(()).expand(*hidden.shape[:-1], classes)


def _rows(hidden: Tensor) -> Tensor:
    """Hidden states as (N, d), in autocast's dtype where it is on."""
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return hidden.reshape(-1, hidden.shape[-1])


def _spread(values: Tensor, kept: Tensor | None, shape: torch.Size) -> Tensor:
    """The values of the rows that were kept, with 0 at the others."""
    if kept is not None:
        values = values.new_zeros(shape.numel()).index_copy(0, kept, values)
    return values.reshape(shape)
