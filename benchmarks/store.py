"""Measure a teacher store on Fashion-MNIST: building it, reading it, training from it, and the size of its formats.

    python -m benchmarks.store [--out FILE]

Building is compared with the bare forward passes of the same teacher over the same batches. An epoch of a small student from
the store is compared with an epoch with the live teacher, and with an epoch without a teacher. All run in one process. The
script prints each number, and saves all of them as JSON in FILE.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks import machine
from limbeck.config import config_from
from limbeck.data import DataConfig, Examples, load_splits
from limbeck.models import ModelConfig, build_model
from limbeck.run.training import train
from limbeck.store import Codec, Dense, Sampled, StoredTeacher, TeacherStore, TopK, build_store, measure_format
from limbeck.teachers import LiveTeacher, Teacher

BATCH = 256
CODECS: tuple[Codec, ...] = (
    Dense("float32"), Dense("float16"), Dense("bfloat16"), Dense("int8"), TopK(4, (4.0,)), Sampled(12, 4.0),
)  # fmt: skip
LIVE, STORED, ALONE = "with the live teacher", "from the store", "without a teacher"


def shortest_seconds(repeats: int, call: Callable[[], object]) -> float:
    """Return the shortest time of a call over so many repeats, without a warm-up."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def time_building(teacher: nn.Module, examples: Examples, folder: Path) -> dict:
    """Return the time of building a store, and of the teacher's forward passes alone over the same batches."""
    forward, build = [], []
    for turn in range(4):  # the two take turns, because the machine's speed drifts
        forward.append(shortest_seconds(1, partial(run_forward_passes, teacher, examples)))
        place = folder / f"built-{turn}"
        build.append(
            shortest_seconds(
                1, partial(build_store, teacher, examples, place, Dense("float16"), batch_size=BATCH)
            )
        )  # fmt: skip
    seconds, bare = min(build), min(forward)
    print(f"building {seconds:.2f} s, bare forward {bare:.2f} s: {seconds / bare:.3f}", flush=True)
    return {"name": "build", "seconds": seconds, "bare_forward_seconds": bare, "ratio": seconds / bare}


def run_forward_passes(teacher: nn.Module, examples: Examples) -> None:
    """Run the teacher over all examples, in the batches in which a store is built."""
    live, ids = LiveTeacher(teacher), examples.ids.sort().values
    for batch in ids.split(BATCH):
        live(examples.load(batch.tolist()))


def time_disk(folder: Path, size: int = 1 << 28) -> dict:
    """Return the bytes per second of reading a file of ``size`` bytes from end to end, past the page cache."""
    path = folder / "disk"
    with path.open("wb") as file:
        file.write(os.urandom(1 << 20) * (size >> 20))
        file.flush()
        os.fsync(file.fileno())

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(1 << 22):
                pass

    rate = size / shortest_seconds(3, read)
    print(f"the disk reads {rate / 1e6:.0f} MB/s", flush=True)
    return {"name": "disk", "bytes_per_second": rate}


def time_reading(
    codec: Codec, teacher: nn.Module, examples: Examples, validation_logits: torch.Tensor, folder: Path
) -> dict:
    """Return the rate of reading a format in random batches, its size, and its error on the validation logits."""
    place = folder / repr(codec)
    build_store(teacher, examples, place, codec, batch_size=BATCH)
    store = TeacherStore(place)
    order = torch.randperm(len(examples))
    batches = [examples.ids[part] for part in order.split(BATCH)]
    seconds = shortest_seconds(3, lambda: [store.look_up(ids) for ids in batches])
    row = {
        "name": f"read {codec}",
        "rows_per_second": len(examples) / seconds,
        "bytes_per_example": store.bytes / len(store),
        "payload": codec.payload_bytes(10),
        "megabytes_per_second": store.bytes / seconds / 1e6,
        "mean_error": measure_format(codec, validation_logits).mean_error,
    }
    print(
        f"{codec}: {row['bytes_per_example']:.1f} bytes an example (payload {row['payload']:.1f}), "
        f"{row['rows_per_second'] / 1e3:.0f} k rows/s, {row['megabytes_per_second']:.0f} MB/s, "
        f"mean |error of log p| {row['mean_error']}",
        flush=True,
    )
    return row


def time_epoch(student: nn.Module, teacher: nn.Module | Teacher | None, examples: Examples, folder: Path) -> float:
    """Return the seconds of one epoch of the Trainer, without its start: a third of four epochs less one."""
    config = config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp"}})
    common = {
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_strategy": "no",
    }

    def run(epochs: int) -> float:
        start = time.perf_counter()
        schedule = {**common, "num_train_epochs": epochs}
        train(student, teacher, examples, config.model_copy(update={"training": schedule}), folder=folder)
        return time.perf_counter() - start

    one = min(run(1) for _ in range(2))
    return (min(run(4) for _ in range(2)) - one) / 3


def time_epochs(student: nn.Module, teacher: nn.Module, store: Path, examples: Examples, folder: Path) -> list[dict]:
    """Return the time of an epoch without a teacher, from the store, and with the live teacher."""
    quick: dict[str, nn.Module | Teacher | None] = {ALONE: None, STORED: StoredTeacher(store)}
    # The three take turns, because the machine's speed drifts. The live teacher is slow and takes one turn.
    rounds = [
        {name: time_epoch(student, source, examples, folder / "run") for name, source in sources.items()}
        for sources in (quick | {LIVE: teacher}, *[quick] * 4)
    ]
    seconds = {name: min(times[name] for times in rounds if name in times) for name in rounds[0]}
    for name, value in seconds.items():
        print(f"an epoch {name}: {value:.2f} s")
    print(
        f"from the store {seconds[LIVE] / seconds[STORED]:.1f}x as fast as live, "
        f"{seconds[STORED] / seconds[ALONE]:.2f} of the time without a teacher"
    )
    return [{"name": f"epoch {name}", "seconds": value} for name, value in seconds.items()]


def main() -> None:
    """Measure everything in turn, print it and save it."""
    arguments = machine.parse_arguments(__doc__)
    description, limits = machine.print_machine()
    splits = load_splits(DataConfig(name="fashion-mnist"))
    torch.manual_seed(0)
    teacher = build_model(ModelConfig("cnn", {}), splits.shape).eval()
    student = build_model(ModelConfig("mlp", {"hidden": [128]}), splits.shape)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = [time_building(teacher, splits.train, folder), time_disk(folder)]
        with torch.no_grad():
            logits = teacher(splits.validation.as_one_batch()["pixel_values"])
        results += [time_reading(codec, teacher, splits.train, logits, folder) for codec in CODECS]
        results += time_epochs(student, teacher, folder / repr(Dense("float16")), splits.train, folder)
    machine.save_results(arguments.out, description, limits, results)


if __name__ == "__main__":
    main()
