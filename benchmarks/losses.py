"""The dense loss, forward and backward, of eager torch, torch.compile, torchtune and Limbeck.

    python -m benchmarks.losses [--out FILE]

Every contender computes alpha T² KL + (1 - alpha) CE at T = 2, alpha = 0.5 on the same logits, in one process. Ratios
compare within it; they are what to quote. "Bytes" is the time in which this machine copies the bytes that must move (both
logits read, the gradient written) as a share of the time taken; "exp" is the same for two exponentials for each logit.
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


def eager(student: Tensor, teacher: Tensor, labels: Tensor, divergence: str = "forward_kl") -> Tensor:
    """What people write, at its best: no upcast copies, log targets."""
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
    """Its cross-entropy with the teacher in eight chunks, the temperature taken on the outside as it has none."""
    module = peers.torchtune_losses()
    assert module is not None
    chunked = module.ForwardKLWithChunkedOutputLoss(num_output_chunks=8)
    split = [list((logits / T).unsqueeze(0).chunk(8, 1)) for logits in (student, teacher)]
    soft = chunked(*split, labels.unsqueeze(0))
    return ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(student, labels)


def ours(inplace: bool = False, divergence: str = "forward_kl") -> Loss:
    return lambda s, t, y: distillation_loss(
        s, t, y, temperature=T, alpha=ALPHA, divergence=divergence, inplace=inplace
    )


def contenders(with_compile: bool) -> dict[str, Loss]:
    named: dict[str, Loss] = {"eager": eager}
    if with_compile:
        named["torch.compile"] = torch.compile(eager, dynamic=False)
    if peers.torchtune_losses() is not None:
        named["torchtune, chunked"] = torchtune
    return named | {"limbeck": ours(), "limbeck, in place": ours(inplace=True)}


def classification_metrics(
    shape: tuple[int, int], dtype: torch.dtype, contenders: dict[str, Loss], divergence: str = "forward_kl"
) -> list[dict]:
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(shape, device=machine.DEVICE).to(dtype) for _ in range(2))
    labels = torch.randint(shape[1], shape[:1], device=machine.DEVICE)
    torch.compiler.reset()  # else it gives up compiling after eight shapes
    rows = []
    for name, loss in contenders.items():
        if name.startswith("torchtune") and shape[0] * shape[1] < 1e6:
            continue  # made for large vocabularies
        consumed = student.clone()

        def step(loss: Loss = loss, leaf: Tensor = consumed) -> None:
            # Detached: an in-place loss consumes its logits, whose values then differ, but not the work.
            loss(leaf.detach().requires_grad_(), teacher, labels).backward()

        size = student.numel()
        row = {"shape": list(shape), "dtype": str(dtype).removeprefix("torch."), "divergence": divergence, "name": name}
        row["seconds"] = machine.seconds(step)
        row["extra_bytes_per_logit"] = None if (peak := machine.peak_bytes(step)) is None else peak / size
        rows.append(row)
    return rows


def table(results: list[dict], limits: dict[str, float]) -> list[str]:
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
    arguments = machine.begin(__doc__, compiles=True)
    told, limits = machine.introduce()
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        for shape in GPU_SHAPES if machine.DEVICE.type == "cuda" else SHAPES:
            results += classification_metrics(shape, dtype, contenders(not arguments.no_compile))
            print(f"{shape} {dtype} done", flush=True)
    for divergence in DIVERGENCES:
        named: dict[str, Loss] = {"eager": lambda s, t, y, divergence=divergence: eager(s, t, y, divergence)}
        named |= {"limbeck": ours(False, divergence), "limbeck, in place": ours(True, divergence)}
        for shape in ((4096, 100), (1024, 32000)):
            results += classification_metrics(shape, torch.float32, named, divergence)
    print("\n" + "\n".join(table(results, limits)))
    machine.keep(arguments.out, told, limits, results)


if __name__ == "__main__":
    main()
