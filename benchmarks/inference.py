"""Measure what a run's student buys at inference, beside its teacher, in each format of ``limbeck export``.

    python -m benchmarks.inference RUN [--out FILE]

RUN is the folder of a finished run with a teacher of its own. Latency is the time of one call with one example, as the median
and the 99th percentile of 300 calls; throughput is that of 128 examples in one call, in the fastest of 20. Everything runs on
one core. All contenders take turns in one process, because the machine's speed drifts. The script prints a table, and saves the
numbers as JSON in FILE.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import machine
from limbeck.data import Preprocessing
from limbeck.export.formats import FORMATS, Run, Student
from limbeck.export.program import inputs_of
from limbeck.models import count_parameters, forward_logits, load_model
from limbeck.run.folder import STUDENT, TEACHER, read_run
from limbeck.run.inputs import load_run_splits
from limbeck.tasks import task_named

CALLS, PASSES, BATCH = 300, 20, 128


def contenders(name: str, model: nn.Module, run: Path, batch: dict, folder: Path) -> dict[str, tuple[Run, int, int]]:
    """Return how a model is run in each format, with its number of parameters and the bytes of its file."""
    found: dict[str, tuple[Run, int, int]] = {}
    count = count_parameters(model)
    weights = 4 * count
    found[f"{name}, torch"] = (lambda inputs: forward_logits(model, inputs), count, weights)
    student = Student(model, Preprocessing.load(run / STUDENT), run / STUDENT, batch)
    for kind in ("torch-export", "onnx", "onnx, int8"):
        chosen, place = FORMATS[kind.removesuffix(", int8")], folder / f"{name}-{kind}"
        place.mkdir()
        chosen.write(student, place)
        if kind.endswith("int8") and chosen.quantise is not None:
            chosen.quantise(place)
        size = sum(path.stat().st_size for path in place.iterdir())
        found[f"{name}, {kind}"] = (chosen.open(place, ()), count, size)
    return found


def measure(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each call; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 3):  # three are to warm up
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    """Measure everything, print the table and save the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--out", type=Path, help="save the results as JSON")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(
            0, {min(os.sched_getaffinity(0))}
        )  # onnxruntime takes as many threads as it may have cores
    torch.set_num_threads(1)
    told = {**machine.describe_machine(), "onnxruntime": version("onnxruntime")}
    test = load_run_splits(read_run(options.run)).test
    task = task_named(test.task)
    models = {name: load_model(options.run / name).float() for name in (TEACHER, STUDENT)}
    some = [test.__getitems__([i % len(test) for i in range(count)]) for count in (1, BATCH)]
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        ready: dict[str, tuple[Run, int, int]] = {}
        for name, model in models.items():
            ready |= contenders(name, model, options.run, inputs_of(model, some[1], task), Path(folder))
        one, many = (inputs_of(models[STUDENT], batch, task) for batch in some)
        latency = measure({name: lambda run=run: run(one) for name, (run, _, _) in ready.items()}, CALLS)
        passes = measure({name: lambda run=run: run(many) for name, (run, _, _) in ready.items()}, PASSES)
    results = [
        {
            "name": name, "parameters": parameters, "bytes": size, "batch": BATCH,
            "median_seconds": float(np.median(latency[name])), "p99_seconds": float(np.quantile(latency[name], 0.99)),
            "examples_per_second": BATCH / min(passes[name]),
        }
        for name, (_, parameters, size) in ready.items()
    ]  # fmt: skip
    print(*table(results), sep="\n")
    machine.save_results(options.out, told, {}, results)


def table(results: list[dict]) -> list[str]:
    """Return the lines of the table in Markdown.

    Args:
        results: one dictionary for each model and format.
    """
    lines = ["| | parameters | kB | median, ms | p99, ms | examples / s |", "|---|--:|--:|--:|--:|--:|"]
    for row in results:
        times = " | ".join(f"{1000 * row[key]:.3f}" for key in ("median_seconds", "p99_seconds"))
        size, speed = row["bytes"] / 1000, row["examples_per_second"]
        lines.append(f"| {row['name']} | {row['parameters']:,} | {size:,.0f} | {times} | {speed:,.0f} |")
    return lines


if __name__ == "__main__":
    main()
