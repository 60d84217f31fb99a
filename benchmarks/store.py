"""A teacher store on Fashion-MNIST: building, reading, training from it, and what its formats cost.

    python -m benchmarks.store [--out FILE]

Building is compared with the bare forward passes of the same teacher over the same batches; an epoch of a small student from
the store with the same epoch beside the live teacher and with one without any teacher; all in one process.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import machine
from limbeck.config import config_from
from limbeck.data import DataConfig, Examples, load_splits
from limbeck.models import ModelConfig, build_model
from limbeck.run.training import train
from limbeck.store import Codec, Dense, Sampled, StoredTeacher, TeacherStore, TopK, build_store, measure_format
from limbeck.teachers import LiveTeacher

BATCH = 256
CODECS: tuple[Codec, ...] = (
    Dense("float32"), Dense("float16"), Dense("bfloat16"), Dense("int8"), TopK(4, (4.0,)), Sampled(12, 4.0),
)  # fmt: skip


def best_of(repeats: int, call) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def disk_rate(folder: Path, size: int = 1 << 28) -> float:
    """Bytes per second of a sequential read of a file that the page cache has let go of."""
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

    return size / best_of(3, read)


def bare_forward(teacher: torch.nn.Module, examples: Examples) -> None:
    live, ids = LiveTeacher(teacher), examples.ids.sort().values
    for some in ids.split(BATCH):
        live(examples.load(some.tolist()))


def epoch_seconds(student, teacher, examples: Examples, folder: Path) -> float:
    """One epoch of the Trainer, whose start is not counted: two epochs less one."""
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


def main() -> None:
    arguments = machine.begin(__doc__)
    told, limits = machine.introduce()
    splits = load_splits(DataConfig(name="fashion-mnist"))
    examples = splits.train
    torch.manual_seed(0)
    teacher = build_model(ModelConfig("cnn", {}), splits.shape).eval()
    student = build_model(ModelConfig("mlp", {"hidden": [128]}), splits.shape)
    results: list[dict] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        counter = iter(range(1000))
        times: dict[str, list[float]] = {"forward": [], "build": []}
        for _ in range(4):  # in turns, for the machine's speed drifts
            times["forward"].append(best_of(1, lambda: bare_forward(teacher, examples)))
            where = folder / f"built-{next(counter)}"
            times["build"].append(
                best_of(
                    1, lambda where=where: build_store(teacher, examples, where, Dense("float16"), batch_size=BATCH)
                )
            )
        forward, built = min(times["forward"]), min(times["build"])
        results.append({"name": "build", "seconds": built, "bare_forward_seconds": forward, "ratio": built / forward})
        print(f"building {built:.2f} s, bare forward {forward:.2f} s: {built / forward:.3f}", flush=True)

        disk = disk_rate(folder)
        results.append({"name": "disk", "bytes_per_second": disk})
        print(f"the disk reads {disk / 1e6:.0f} MB/s", flush=True)
        some = splits.validation
        with torch.no_grad():
            logits = teacher(some.as_one_batch()["pixel_values"])
        for codec in CODECS:
            where = folder / repr(codec)
            build_store(teacher, examples, where, codec, batch_size=BATCH)
            store = TeacherStore(where)
            order = torch.randperm(len(examples))
            batches = [examples.ids[part] for part in order.split(BATCH)]
            seconds = best_of(3, lambda store=store, batches=batches: [store.look_up(ids) for ids in batches])
            quality = measure_format(codec, logits)
            each, payload = store.bytes / len(store), codec.payload_bytes(10)
            row = {"name": f"read {codec}", "rows_per_second": len(examples) / seconds, "bytes_per_example": each}
            row |= {
                "payload": payload,
                "megabytes_per_second": store.bytes / seconds / 1e6,
                "mean_error": quality.mean_error,
            }
            results.append(row)
            print(
                f"{codec}: {each:.1f} bytes an example (payload {payload:.1f}), {row['rows_per_second'] / 1e3:.0f} k rows/s, "
                f"{row['megabytes_per_second']:.0f} MB/s, "
                f"mean |error of log p| {quality.mean_error}",
                flush=True,
            )
        where = folder / repr(Dense("float16"))
        everybody = {
            "without a teacher": None,
            "from the store": StoredTeacher(where),
            "with the live teacher": teacher,
        }
        rounds = [
            {name: epoch_seconds(student, who, examples, folder / "run") for name, who in timed.items()}
            for timed in (everybody, *[dict(list(everybody.items())[:2])] * 4)  # in turns; the live teacher once
        ]
        epochs = {name: min(found[name] for found in rounds if name in found) for name in everybody}
    for name, seconds in epochs.items():
        results.append({"name": f"epoch {name}", "seconds": seconds})
        print(f"an epoch {name}: {seconds:.2f} s")
    live, stored, alone = epochs["with the live teacher"], epochs["from the store"], epochs["without a teacher"]
    print(f"from the store {live / stored:.1f}x as fast as live, {stored / alone:.2f} of the time without a teacher")
    machine.keep(arguments.out, told, limits, results)


if __name__ == "__main__":
    main()
