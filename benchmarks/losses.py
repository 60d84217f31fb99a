"""Compare Limbeck's loss, forward and backward, with eager torch, torch.compile and torchtune on the same logits.

    python -m benchmarks.losses [--no-compile] [--out FILE]

Every contender computes alpha T² KL + (1 - alpha) CE at T = 2 and alpha = 0.5, on the same logits and in one process; for
eager torch and Limbeck, other divergences follow. The script prints a table, and saves the numbers as JSON in FILE. Quote
its ratios: they depend less on the machine than times do.

The last two columns compare each time with this machine's limits. "bytes, %" is the time that copying the necessary bytes
takes (both logits are read, the gradient is written), as a share of the measured time. "exp, %" is the same for two
exponentials for each logit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine, peers
from limbeck import distillation_loss

SHAPES = ((128, 10), (256, 1000), (4096, 100), (1024, 32000), (128, 151936))
GPU_SHAPES = (*SHAPES, (8192, 32000), (8192, 151936))
DIVERGENCES = ("reverse_kl", "jsd", "tvd", "logit_mse")
T, ALPHA = 2.0, 0.5

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function of the student's logits, the teacher's logits (both of one shape (N, V)) and the labels (N,)."""


def eager(student: Tensor, teacher: Tensor, labels: Tensor, divergence: str = "forward_kl") -> Tensor:
    """Return the loss that people write by hand, as fast as it gets: without upcast copies, with log targets."""
    if divergence == "logit_mse":
        d = student - teacher
        soft = 0.5 * (d - d.mean(-1, keepdim=True)).square().mean()
        return ALPHA * soft + (1 - ALPHA) * F.cross_entropy(student, labels)
    a, b = F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)
    if divergence == "tvd":
        return ALPHA * T * 0.5 * (a.exp() - b.exp()).abs().sum(-1).mean() + (1 - ALPHA) * F.cross_entropy(
            student, labels
        )
    if divergence == "jsd":
        m = torch.logaddexp(a, b) - torch.tensor(2.0).log()
        soft = 0.5 * sum(F.kl_div(m, x, log_target=True, reduction="batchmean") for x in (a, b))
    else:
        pair = (a, b) if divergence == "forward_kl" else (b, a)
        soft = F.kl_div(*pair, log_target=True, reduction="batchmean")
    return ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(student, labels)


def torchtune(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Return the loss with torchtune's soft cross-entropy in eight chunks. T is applied here, because torchtune has none."""
    module = peers.torchtune_losses()
    assert module is not None
    chunked = module.ForwardKLWithChunkedOutputLoss(num_output_chunks=8)
    split = [list((logits / T).unsqueeze(0).chunk(8, 1)) for logits in (student, teacher)]
    soft = chunked(*split, labels.unsqueeze(0))
    return ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(student, labels)


def limbeck(inplace: bool = False, divergence: str = "forward_kl") -> Loss:
    """Return Limbeck's loss with a divergence. ``inplace`` writes the gradient over the student's logits."""
    return lambda s, t, y: distillation_loss(
        s, t, y, temperature=T, alpha=ALPHA, divergence=divergence, inplace=inplace
    )


def all_contenders(with_compile: bool) -> dict[str, Loss]:
    """Return every loss that takes part with forward KL, by name, eager torch first."""
    contenders: dict[str, Loss] = {"eager": eager}
    if with_compile:
        contenders["torch.compile"] = torch.compile(eager, dynamic=False)
    if peers.torchtune_losses() is not None:
        contenders["torchtune, chunked"] = torchtune
    return contenders | {"limbeck": limbeck(), "limbeck, in place": limbeck(inplace=True)}


def contenders_of(divergence: str) -> dict[str, Loss]:
    """Return the losses that take part with another divergence, by name, eager torch first."""
    return {
        "eager": lambda student, teacher, labels: eager(student, teacher, labels, divergence),
        "limbeck": limbeck(False, divergence),
        "limbeck, in place": limbeck(True, divergence),
    }


def time_contenders(
    shape: tuple[int, int], dtype: torch.dtype, contenders: dict[str, Loss], divergence: str = "forward_kl"
) -> list[dict]:
    """Return the time and the extra memory of each loss on random logits of a shape and dtype."""
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(shape, device=machine.DEVICE).to(dtype) for _ in range(2))
    labels = torch.randint(shape[1], shape[:1], device=machine.DEVICE)
    torch.compiler.reset()  # otherwise it gives up compiling after eight shapes
    rows = []
    for name, loss in contenders.items():
        if name.startswith("torchtune") and shape[0] * shape[1] < 1e6:
            continue  # torchtune's loss is made for large vocabularies
        overwritten = student.clone()

        def step(loss: Loss = loss, leaf: Tensor = overwritten) -> None:
            # An in-place loss overwrites its logits, so a later call sees other values. The work stays the same.
            loss(leaf.detach().requires_grad_(), teacher, labels).backward()

        seconds, peak = machine.measure_seconds(step), machine.measure_peak_bytes(step)
        rows.append(
            {
                "shape": list(shape),
                "dtype": str(dtype).removeprefix("torch."),
                "divergence": divergence,
                "name": name,
                "seconds": seconds,
                "extra_bytes_per_logit": None if peak is None else peak / student.numel(),
            }
        )
    return rows


def table(results: list[dict], limits: dict[str, float]) -> list[str]:
    """Return the results as the lines of a Markdown table, compared with eager torch and with the machine's limits."""
    lines = [
        "| logits | loss | ms | to eager | extra bytes / logit | bytes, % | exp, % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in results:
        (rows, classes), same = row["shape"], ("shape", "dtype", "divergence")
        first = next(r for r in results if all(r[key] == row[key] for key in same))
        width = {"float32": 4, "bfloat16": 2}[row["dtype"]]
        moved = 3 * width * rows * classes / limits["copy_bytes_per_second"]
        exponentials = 2 * rows * classes / limits["exp2_per_second"]
        extra = row["extra_bytes_per_logit"]
        lines.append(
            f"| {rows} x {classes}, {row['dtype']}, {row['divergence']} | {row['name']} | {1e3 * row['seconds']:.2f} "
            f"| {first['seconds'] / row['seconds']:.2f}x "
            f"| {'' if extra is None or rows * classes < 1e6 else f'{extra:.1f}'} "
            f"| {100 * moved / row['seconds']:.0f} | {100 * exponentials / row['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    """Measure all shapes, dtypes and divergences, print the table and save the results."""
    arguments = machine.parse_arguments(__doc__, compiles=True)
    description, limits = machine.print_machine()
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        for shape in GPU_SHAPES if machine.DEVICE.type == "cuda" else SHAPES:
            results += time_contenders(shape, dtype, all_contenders(not arguments.no_compile))
            print(f"{shape} {dtype} done", flush=True)
    for divergence in DIVERGENCES:
        for shape in ((4096, 100), (1024, 32000)):
            results += time_contenders(shape, torch.float32, contenders_of(divergence), divergence)
    print("\n" + "\n".join(table(results, limits)))
    machine.save_results(arguments.out, description, limits, results)


if __name__ == "__main__":
    main()
