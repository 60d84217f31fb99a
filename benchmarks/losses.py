"""The dense loss, forward and backward: eager torch, torch.compile, Limbeck: python -m benchmarks.losses [--out FILE]

Every contender computes alpha T² KL + (1 - alpha) CE at T = 2, alpha = 0.5 on the same logits, in one process. Ratios
compare within it; they are what to quote. "limit" is the time in which this machine copies the bytes that must move
(both logits read, the gradient written), as a share of the time taken.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine
from limbeck import distillation_loss

SHAPES = ((128, 10), (256, 1000), (4096, 100), (1024, 32000), (128, 151936))
T, ALPHA = 2.0, 0.5

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def eager(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """What people write, at its best: no upcast copies, log targets."""
    a, b = F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)
    soft = F.kl_div(a, b, log_target=True, reduction="batchmean") * T * T
    return ALPHA * soft + (1 - ALPHA) * F.cross_entropy(student, labels)


def ours(inplace: bool) -> Loss:
    return lambda s, t, y: distillation_loss(s, t, y, temperature=T, alpha=ALPHA, inplace=inplace)


def contenders(with_compile: bool) -> dict[str, Loss]:
    named: dict[str, Loss] = {"eager": eager}
    if with_compile:
        named["torch.compile"] = torch.compile(eager, dynamic=False)
    return named | {"limbeck": ours(False), "limbeck, in place": ours(True)}


def measure(shape: tuple[int, int], dtype: torch.dtype, with_compile: bool) -> list[dict]:
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(shape).to(dtype) for _ in range(2))
    labels = torch.randint(shape[1], shape[:1])
    torch.compiler.reset()  # else it gives up compiling after eight shapes
    rows = []
    for name, loss in contenders(with_compile).items():
        consumed = student.clone()

        def step(loss: Loss = loss, leaf: Tensor = consumed) -> None:
            # Detached: an in-place loss consumes its logits, whose values then differ, but not the work.
            loss(leaf.detach().requires_grad_(), teacher, labels).backward()

        size = student.numel()
        rows.append(
            {
                "shape": list(shape),
                "dtype": str(dtype).removeprefix("torch."),
                "name": name,
                "seconds": machine.seconds(step),
                "extra_bytes_per_logit": None if (peak := machine.peak_bytes(step)) is None else peak / size,
            }
        )
    return rows


def table(results: list[dict], limits: dict[str, float]) -> list[str]:
    lines = [
        "| shape, dtype | loss | ms | million logits / s | to eager | extra bytes / logit | limit, % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in results:
        rows, classes = row["shape"]
        first = next(r for r in results if (r["shape"], r["dtype"]) == (row["shape"], row["dtype"]))
        width = {"float32": 4, "bfloat16": 2}[row["dtype"]]
        floor = 3 * width * rows * classes / limits["copy_bytes_per_second"]
        extra = row["extra_bytes_per_logit"]
        lines.append(
            f"| {rows} x {classes}, {row['dtype']} | {row['name']} | {1e3 * row['seconds']:.2f} "
            f"| {rows * classes / row['seconds'] / 1e6:.0f} | {first['seconds'] / row['seconds']:.2f}x "
            f"| {'' if extra is None or rows * classes < 1e6 else f'{extra:.1f}'} | {100 * floor / row['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the results as JSON")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    told, limits = machine.describe(), machine.limits()
    print(*(f"{name}: {value}" for name, value in told.items()), sep="\n")
    print(f"copy {limits['copy_bytes_per_second'] / 1e9:.1f} GB/s, exp2 {limits['exp2_per_second'] / 1e9:.2f} G/s\n")
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            results += measure(shape, dtype, not arguments.no_compile)
            print(f"{shape} {dtype} done", flush=True)
    print("\n" + "\n".join(table(results, limits)))
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": told, "limits": limits, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
