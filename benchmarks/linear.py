"""Compare Limbeck's fused projection and loss, forward and backward, with torch, Liger, TRL and torchtune.

    python -m benchmarks.linear [--no-compile] [--out FILE]

Each contender computes half KL at T = 2 and half cross-entropy from the hidden states of both models, in one process. "KL
alone" is for TRL, which has no hard labels. All contenders leave T² out, because Liger and TRL do not have it. The script
prints a table, and saves the numbers as JSON in FILE. "products, %" is the time that the four matrix products alone take on
this machine, as a share of the measured time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine, peers
from limbeck import linear_distillation_loss

SHAPE = dict(rows=512, classes=32000, student=256, teacher=512)
GPU_SHAPE = dict(rows=8192, classes=151936, student=2048, teacher=4096)
T = 2.0

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""A function of student hidden (N, H), student weight (V, H), teacher hidden, teacher weight and labels (N,)."""


def eager(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    labels: Tensor,
    hard: bool = True,
) -> Tensor:
    """Return the loss that people write by hand; without ``hard`` it is KL alone."""
    student = F.linear(student_hidden, student_weight)
    with torch.no_grad():
        teacher = F.linear(teacher_hidden, teacher_weight)
    pair = F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)
    soft = F.kl_div(*pair, log_target=True, reduction="batchmean")
    return 0.5 * soft + 0.5 * F.cross_entropy(student, labels) if hard else soft


def torchtune(
    student_hidden: Tensor, student_weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor, labels: Tensor
) -> Tensor:
    """Return the loss with torchtune's chunked soft cross-entropy, which keeps all chunks of logits for the backward."""
    module = peers.torchtune_losses()
    assert module is not None
    student = [F.linear(chunk, student_weight).unsqueeze(0) for chunk in student_hidden.chunk(8)]
    with torch.no_grad():
        teacher = [F.linear(chunk, teacher_weight).unsqueeze(0) for chunk in teacher_hidden.chunk(8)]
    chunked = module.ForwardKLWithChunkedOutputLoss(num_output_chunks=8)
    soft = chunked([z / T for z in student], [z / T for z in teacher], labels.unsqueeze(0))
    return 0.5 * soft + 0.5 * F.cross_entropy(torch.cat(student, 1).squeeze(0), labels)


def liger(chunk: int, compiled: bool) -> Loss:
    """Return Liger's loss, which works on chunks of so many rows and may be compiled."""
    module = peers.liger_jsd()(
        weight_hard_loss=0.5, weight_soft_loss=0.5, beta=0.0, temperature=T, compiled=compiled, chunk_size=chunk
    )

    def loss(*arguments: Tensor) -> Tensor:
        value = module(*arguments)
        return value[0] if isinstance(value, tuple) else value

    return loss


def trl(
    student_hidden: Tensor, student_weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor, *_: Tensor
) -> Tensor:
    """Return TRL's KL alone."""
    divergence = peers.trl_divergence()
    return divergence.apply(
        student_hidden, student_weight, None, teacher_hidden, teacher_weight, None, 0.0, T
    )[0].mean()  # fmt: skip


def limbeck(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    labels: Tensor,
    alpha: float = 0.5,
) -> Tensor:
    """Return Limbeck's loss, without T²."""
    return linear_distillation_loss(
        student_hidden, student_weight, teacher_hidden, teacher_weight, labels, temperature=T, alpha=alpha,
        compensate=False,
    )  # fmt: skip


def all_contenders(with_compile: bool) -> dict[str, dict[str, Loss]]:
    """Return the losses by task and name, eager torch first in each task."""
    both: dict[str, Loss] = {"eager": eager}
    alone: dict[str, Loss] = {"eager": partial(eager, hard=False)}
    if with_compile:
        both["torch.compile"] = torch.compile(eager, dynamic=False)
    if peers.torchtune_losses() is not None:
        both["torchtune, 8 chunks"] = torchtune
    if peers.liger_jsd() is not None:
        both |= {f"Liger, chunks of {n}": liger(n, compiled=False) for n in (128, 1024)}
        if with_compile:
            both |= {f"Liger, compiled, chunks of {n}": liger(n, compiled=True) for n in (128, 1024)}
    if peers.trl_divergence() is not None:
        alone["TRL"] = trl
    return {"KL and CE": both | {"limbeck": limbeck}, "KL alone": alone | {"limbeck": partial(limbeck, alpha=1.0)}}


def time_contenders(
    shape: dict[str, int], dtype: torch.dtype, contenders: dict[str, dict[str, Loss]], limits: dict[str, float]
) -> list[dict]:
    """Return the time and the extra memory of each loss on random hidden states of a shape and dtype."""
    torch.manual_seed(0)
    rows, classes, student_width, teacher_width = (shape[key] for key in ("rows", "classes", "student", "teacher"))

    def draw(count: int, width: int) -> Tensor:
        return torch.randn(count, width, dtype=dtype, device=machine.DEVICE)

    student_hidden, teacher_hidden = draw(rows, student_width), draw(rows, teacher_width)
    student_weight, teacher_weight = 0.1 * draw(classes, student_width), 0.1 * draw(classes, teacher_width)
    labels = torch.randint(classes, (rows,), device=machine.DEVICE)
    dtype_name = str(dtype).removeprefix("torch.")
    # The teacher's logits are one product; the student's logits and the gradients of its two factors are three.
    operations = 2 * rows * classes * (teacher_width + 3 * student_width)
    results = []
    for task, losses in contenders.items():
        for name, loss in losses.items():

            def step(loss: Loss = loss) -> None:
                leaves = student_hidden.detach().requires_grad_(), student_weight.detach().requires_grad_()
                loss(*leaves, teacher_hidden, teacher_weight, labels).backward()

            results.append(
                {
                    "shape": shape,
                    "dtype": dtype_name,
                    "task": task,
                    "name": name,
                    "seconds": machine.measure_seconds(step, repeats=3),
                    "extra_bytes": machine.measure_peak_bytes(step),
                    "products_seconds": operations / limits[f"{dtype_name}_flops_per_second"],
                }
            )
            print(f"{task}, {name} done", flush=True)
    return results


def table(results: list[dict]) -> list[str]:
    """Return the results as the lines of a Markdown table, compared with eager torch."""
    lines = ["| task | loss | ms | to eager | extra memory, MB | products, % |", "|---|---|--:|--:|--:|--:|"]
    for row in results:
        first = next(r for r in results if (r["task"], r["dtype"]) == (row["task"], row["dtype"]))
        extra = "" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 1e6:.0f}"
        lines.append(
            f"| {row['task']}, {row['dtype']} | {row['name']} | {1e3 * row['seconds']:.0f} "
            f"| {first['seconds'] / row['seconds']:.2f}x | {extra} | {100 * row['products_seconds'] / row['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    """Measure all contenders, print the table and save the results."""
    arguments = machine.parse_arguments(__doc__, compiles=True)
    description, limits = machine.print_machine()
    gpu = machine.DEVICE.type == "cuda"
    shape, dtype = (GPU_SHAPE, torch.bfloat16) if gpu else (SHAPE, torch.float32)
    print(f"{shape} {dtype}\n")
    results = time_contenders(shape, dtype, all_contenders(not arguments.no_compile), limits)
    print("\n" + "\n".join(table(results)))
    machine.save_results(arguments.out, description, limits, results)


if __name__ == "__main__":
    main()
