"""Compare a training step of two language models, from the tokens to the gradients: seconds, and memory at its peak.

    python -m benchmarks.language_model [--classes V ...] [--tokens N ...] [--repeats N] [--out FILE]

Each contender runs in a process of its own on the same models, batch and threads. The memory is what the first step adds to the
process's peak, after a step on a few tokens. Limbeck, the loss by hand and Liger have KL and cross-entropy; TRL has KL alone.
The script prints a table, and saves the numbers as JSON in FILE.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import machine, peers

T, ALPHA = 2.0, 0.5
WIDTH, SEQUENCE = 576, 512
STUDENT_LAYERS, TEACHER_LAYERS = 2, 4

Batch = dict[str, Tensor]
Loss = Callable[[Batch], Tensor]


def model(classes: int, layers: int) -> Any:
    """Return a Llama as wide as SmolLM2-135M with random weights and tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(layers)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=classes, hidden_size=WIDTH, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
            num_key_value_heads=3, tie_word_embeddings=True, use_cache=False,
        )
    )  # fmt: skip


def whole_logits(student: nn.Module, teacher: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits of both models at the positions that have a next token, and these tokens."""
    with torch.no_grad():
        theirs = teacher(batch["input_ids"]).logits[:, :-1]
    return student(batch["input_ids"]).logits[:, :-1], theirs, batch["labels"][:, 1:]


def hidden_states(student: Any, teacher: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return hidden states and output weights of both models, and the next tokens, as rows."""
    with torch.no_grad():
        theirs = teacher.model(batch["input_ids"]).last_hidden_state[:, :-1].flatten(0, 1)
    ours = student.model(batch["input_ids"]).last_hidden_state[:, :-1].flatten(0, 1)
    return ours, student.lm_head.weight, theirs, teacher.lm_head.weight, batch["labels"][:, 1:].flatten()


def by_hand(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return the loss that people write."""

    def loss(batch: Batch) -> Tensor:
        ours, theirs, labels = whole_logits(student, teacher, batch)
        pair = F.log_softmax(ours / T, -1).flatten(0, 1), F.log_softmax(theirs / T, -1).flatten(0, 1)
        soft = F.kl_div(*pair, log_target=True, reduction="batchmean")
        return ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(ours.flatten(0, 1), labels.flatten())

    return loss


def limbeck(student: nn.Module, teacher: nn.Module, fused_loss: bool = True) -> Loss:
    """Return the loss of the trainer."""
    from limbeck import DistillationArguments, DistillationTrainer

    arguments = DistillationArguments(
        tempfile.mkdtemp(), temperature=T, alpha=ALPHA, fused_loss=fused_loss, report_to=[], logging_strategy="no",
        use_cpu=machine.DEVICE.type == "cpu",
    )  # fmt: skip
    trainer = DistillationTrainer(student, teacher, arguments)
    return lambda batch: trainer.compute_loss(student, dict(batch))


def limbeck_whole(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return the loss of the trainer with whole logits."""
    return limbeck(student, teacher, fused_loss=False)


def trl_gkd(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return the loss of TRL's GKD trainer."""
    trainer = peers.trl_gkd()

    def loss(batch: Batch) -> Tensor:
        ours, theirs, labels = whole_logits(student, teacher, batch)
        return trainer.generalized_jsd_loss(ours, theirs, labels, beta=0.0, temperature=T)

    return loss


def trl_chunked(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return the loss of TRL's distillation trainer, of all tokens."""
    divergence = peers.trl_divergence()

    def loss(batch: Batch) -> Tensor:
        ours, weight, theirs, their_weight, _ = hidden_states(student, teacher, batch)
        return divergence.apply(ours, weight, None, theirs, their_weight, None, 0.0, T)[0].mean()

    return loss


def liger(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return Liger's chunked loss in plain torch, which is what it has for a CPU."""
    module = peers.liger_jsd()(
        weight_hard_loss=1 - ALPHA, weight_soft_loss=ALPHA, beta=0.0, temperature=T, compiled=False
    )

    def loss(batch: Batch) -> Tensor:
        value = module(*hidden_states(student, teacher, batch))
        return value[0] if isinstance(value, tuple) else value

    return loss


CONTENDERS: dict[str, tuple[Callable[[Any, Any], Loss], Callable[[], Any]]] = {
    "by hand, whole logits": (by_hand, lambda: True),
    "limbeck": (limbeck, lambda: True),
    "limbeck, fused_loss=False": (limbeck_whole, lambda: True),
    "TRL GKD, KL alone": (trl_gkd, peers.trl_gkd),
    "TRL distillation, KL alone": (trl_chunked, peers.trl_divergence),
    "Liger, chunks of 1024": (liger, peers.liger_jsd),
}
"""By name, what makes a contender's loss of both models, and what returns None where its library is not installed."""


def measure(name: str, classes: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of a step and its memory, of one contender in this process."""
    student = model(classes, STUDENT_LAYERS).to(machine.DEVICE)
    teacher = model(classes, TEACHER_LAYERS).to(machine.DEVICE).requires_grad_(False).eval()
    ids = torch.randint(classes, (max(1, tokens // SEQUENCE), min(tokens, SEQUENCE)), device=machine.DEVICE)
    loss = CONTENDERS[name][0](student, teacher)

    def step(rows: Tensor) -> float:
        student.zero_grad(set_to_none=True)
        start = time.perf_counter()
        loss({"input_ids": rows, "labels": rows}).backward()
        if machine.DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    step(ids[:1, :16])
    before = _peak()
    seconds = [step(ids)]
    extra = _peak() - before
    seconds += [step(ids) for _ in range(repeats - 1)]
    return {"name": name, "classes": classes, "tokens": ids.numel(), "seconds": min(seconds), "extra_bytes": extra}


def _peak() -> int:
    """Return the bytes that this process has had at its peak."""
    if machine.DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_all(sizes: list[tuple[int, int]], repeats: int) -> list[dict[str, Any]]:
    """Return the measurements of all contenders that are installed, each in a new process."""
    results = []
    for classes, tokens in sizes:
        for name, (_, installed) in CONTENDERS.items():
            if installed() is None:
                continue
            command = [sys.executable, "-m", "benchmarks.language_model", "--only", name]
            command += ["--classes", str(classes), "--tokens", str(tokens), "--repeats", str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}, {classes} classes, {tokens} tokens done", flush=True)
    return results


def table(results: list[dict[str, Any]]) -> list[str]:
    """Return the results as the lines of a Markdown table, compared with the loss by hand."""
    lines = ["| classes | tokens | step | ms | to by hand | extra memory, MB |", "|--:|--:|---|--:|--:|--:|"]
    for row in results:
        first = next(r for r in results if (r["classes"], r["tokens"]) == (row["classes"], row["tokens"]))
        lines.append(
            f"| {row['classes']:,} | {row['tokens']:,} | {row['name']} | {1e3 * row['seconds']:.0f} "
            f"| {first['seconds'] / row['seconds']:.2f}x | {row['extra_bytes'] / 1e6:.0f} |"
        )
    return lines


def main() -> None:
    """Measure all contenders, print the table and save the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[49152], help="sizes of the vocabulary")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048], help="tokens in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="steps, of which the fastest counts")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one contender in this process")
    parser.add_argument("--out", type=Path, help="save the results as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.classes[0], arguments.tokens[0], arguments.repeats)))
        return
    description, limits = machine.print_machine()
    results = measure_all([(v, n) for v in arguments.classes for n in arguments.tokens], arguments.repeats)
    print("\n" + "\n".join(table(results)))
    machine.save_results(arguments.out, description, limits, results)


if __name__ == "__main__":
    main()
