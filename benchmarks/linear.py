"""Projection and loss together, forward and backward: eager torch, torch.compile, Liger, TRL, torchtune and Limbeck.

    python -m benchmarks.linear [--out FILE]

KL at T = 2 and cross-entropy, half each, from the hidden states of both models, in one process; "KL alone" is for TRL,
which has no hard labels. Everybody is given the work without T² here, which Liger and TRL do not have. "Products" is the
time that the four matrix products alone take on this machine, as a share of the time taken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine, peers
from limbeck import linear_distillation_loss

SHAPE = dict(rows=512, classes=32000, student=256, teacher=512)
GPU_SHAPE = dict(rows=8192, classes=151936, student=2048, teacher=4096)
T = 2.0

Job = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(student hidden, student weight, teacher hidden, teacher weight, labels) -> loss"""


def eager(x: Tensor, w: Tensor, y: Tensor, v: Tensor, labels: Tensor, hard: bool = True) -> Tensor:
    student = F.linear(x, w)
    with torch.no_grad():
        teacher = F.linear(y, v)
    pair = F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)
    soft = F.kl_div(*pair, log_target=True, reduction="batchmean")
    return 0.5 * soft + 0.5 * F.cross_entropy(student, labels) if hard else soft


def torchtune(x: Tensor, w: Tensor, y: Tensor, v: Tensor, labels: Tensor) -> Tensor:
    """Its chunked cross-entropy with the teacher; the chunks of logits are all kept for the backward pass."""
    module = peers.torchtune_losses()
    assert module is not None
    student = [F.linear(part, w).unsqueeze(0) for part in x.chunk(8)]
    with torch.no_grad():
        teacher = [F.linear(part, v).unsqueeze(0) for part in y.chunk(8)]
    chunked = module.ForwardKLWithChunkedOutputLoss(num_output_chunks=8)
    soft = chunked([z / T for z in student], [z / T for z in teacher], labels.unsqueeze(0))
    return 0.5 * soft + 0.5 * F.cross_entropy(torch.cat(student, 1).squeeze(0), labels)


def liger(chunk: int, compiled: bool) -> Job:
    loss = peers.liger_jsd()(
        weight_hard_loss=0.5, weight_soft_loss=0.5, beta=0.0, temperature=T, compiled=compiled, chunk_size=chunk
    )

    def job(x: Tensor, w: Tensor, y: Tensor, v: Tensor, labels: Tensor) -> Tensor:
        value = loss(x, w, y, v, labels)
        return value[0] if isinstance(value, tuple) else value

    return job


def trl(x: Tensor, w: Tensor, y: Tensor, v: Tensor, *_: Tensor) -> Tensor:
    return peers.trl_divergence().apply(x, w, None, y, v, None, 0.0, T)[0].mean()


def ours(x: Tensor, w: Tensor, y: Tensor, v: Tensor, labels: Tensor, alpha: float = 0.5) -> Tensor:
    return linear_distillation_loss(x, w, y, v, labels, temperature=T, alpha=alpha, compensate=False)


def jobs(with_compile: bool) -> dict[str, dict[str, Job]]:
    both: dict[str, Job] = {"eager": eager}
    alone: dict[str, Job] = {"eager": lambda *given: eager(*given, hard=False)}
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
    return {
        "KL and CE": both | {"limbeck": ours},
        "KL alone": alone | {"limbeck": lambda *given: ours(*given, alpha=1.0)},
    }


def classification_metrics(
    shape: dict[str, int], dtype: torch.dtype, with_compile: bool, limits: dict[str, float]
) -> list[dict]:
    torch.manual_seed(0)
    n, classes, d_s, d_t = shape.values()
    random = dict(dtype=dtype, device=machine.DEVICE)
    x, y = torch.randn(n, d_s, **random), torch.randn(n, d_t, **random)
    w, v = 0.1 * torch.randn(classes, d_s, **random), 0.1 * torch.randn(classes, d_t, **random)
    labels = torch.randint(classes, (n,), device=machine.DEVICE)
    name_of_dtype = str(dtype).removeprefix("torch.")
    products = 2 * n * classes * (d_t + 3 * d_s) / limits[f"{name_of_dtype}_flops_per_second"]
    rows = []
    for task, contenders in jobs(with_compile).items():
        for name, job in contenders.items():

            def step(job: Job = job) -> None:
                job(x.detach().requires_grad_(), w.detach().requires_grad_(), y, v, labels).backward()

            row = {
                "shape": shape,
                "dtype": name_of_dtype,
                "task": task,
                "name": name,
                "seconds": machine.seconds(step, repeats=3),
            }
            row |= {"extra_bytes": machine.peak_bytes(step), "products_seconds": products}
            rows.append(row)
            print(f"{task}, {name} done", flush=True)
    return rows


def table(results: list[dict]) -> list[str]:
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
    arguments = machine.begin(__doc__, compiles=True)
    told, limits = machine.introduce()
    gpu = machine.DEVICE.type == "cuda"
    shape, dtype = (GPU_SHAPE, torch.bfloat16) if gpu else (SHAPE, torch.float32)
    print(f"{shape} {dtype}\n")
    results = classification_metrics(shape, dtype, not arguments.no_compile, limits)
    print("\n" + "\n".join(table(results)))
    machine.keep(arguments.out, told, limits, results)


if __name__ == "__main__":
    main()
