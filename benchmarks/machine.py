"""What all benchmarks share: the machine's name and limits, the measuring of time and memory, and the saving of results."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse_arguments(doc: str | None, *, compiles: bool = False) -> argparse.Namespace:
    """Return the arguments of a benchmark's command line.

    Args:
        doc: the benchmark's module docstring, which ``--help`` shows.
        compiles: True if torch.compile takes part, so that ``--no-compile`` can leave it out.

    Returns:
        A namespace with ``out`` (the path of the JSON file to write, or None) and, if ``compiles``, ``no_compile``.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", type=Path, help="save the results as JSON")
    if compiles:
        parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    return parser.parse_args()


def print_machine() -> tuple[dict[str, str], dict[str, float]]:
    """Print the machine and its limits, and return both.

    Returns:
        What ``describe_machine`` returns, and what ``measure_limits`` returns.
    """
    machine, limits = describe_machine(), measure_limits()
    print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n")
    print(f"copy {limits['copy_bytes_per_second'] / 1e9:.1f} GB/s, exp2 {limits['exp2_per_second'] / 1e9:.2f} G/s\n")
    return machine, limits


def describe_machine() -> dict[str, str]:
    """Return the hardware's name as ``device``, and the versions of Python and of each package that takes part."""
    machine = {"device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else _processor()}
    machine["python"] = platform.python_version()
    for package in ("torch", "triton", "liger-kernel", "trl", "torchtune"):
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            machine[package] = "not installed"
    return machine


def _processor() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        name = next((value.strip() for key, value in lines.items() if key.strip() == "model name"), name)
    return f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def measure_seconds(call: Callable[[], object], *, repeats: int = 5, at_least: float = 0.2) -> float:
    """Return the shortest time of one call over several rounds, after a warm-up.

    Args:
        call: what is timed. It takes no arguments.
        repeats: the number of rounds. Each round makes the same number of calls and gives their mean time.
        at_least: about how many seconds all rounds take together. A call that is slower is made once in each round.

    Returns:
        The mean time of a call in the fastest round, in seconds.
    """
    _time_once(call)
    loops = max(1, round(at_least / repeats / max(1e-9, _time_once(call))))
    rounds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(loops):
            call()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        rounds.append((time.perf_counter() - start) / loops)
    return min(rounds)


def _time_once(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_limits() -> dict[str, float]:
    """Return the rates that no loss on this machine can exceed, each measured with torch.

    Returns:
        Bytes that a copy of memory reads and writes (``copy_bytes_per_second``), exponentials (``exp2_per_second``), and
        operations in products of large matrices (``float32_flops_per_second`` and ``bfloat16_flops_per_second``).
    """
    large = 1 << (28 if DEVICE.type == "cuda" else 25)
    source = torch.randn(large, device=DEVICE)
    target = torch.empty_like(source)
    small = source[: large if DEVICE.type == "cuda" else 1 << 18]
    out = target[: len(small)]
    side = 8192 if DEVICE.type == "cuda" else 2048
    rates = {
        "copy_bytes_per_second": 8 * len(source) / measure_seconds(lambda: target.copy_(source)),
        "exp2_per_second": len(small) / measure_seconds(lambda: torch.exp2(small, out=out)),
    }
    for dtype in (torch.float32, torch.bfloat16):
        a = source[: side * side].reshape(side, side).to(dtype)
        product = torch.empty_like(a)
        name = f"{str(dtype).removeprefix('torch.')}_flops_per_second"
        rates[name] = 2 * side**3 / measure_seconds(lambda a=a, product=product: torch.mm(a, a, out=product), repeats=3)
    return rates


def measure_peak_bytes(call: Callable[[], object]) -> int | None:
    """Return by how many bytes a call raises the memory in use at its peak.

    Args:
        call: what is measured. It takes no arguments, and is made twice: the first call is a warm-up.

    Returns:
        The number of bytes, on the GPU if there is one and else of the process. None if the system cannot say.
    """
    call()
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # otherwise memory that an earlier call freed still counts as in use
        clear.write_text("5")  # resets the peak
        before = _kilobytes(status.read_text(), "VmRSS")
        call()
        return 1024 * max(0, _kilobytes(status.read_text(), "VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _kilobytes(status: str, name: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def save_results(path: Path | None, machine: dict[str, str], limits: dict[str, float], results: list[dict]) -> None:
    """Write the results as JSON, with the machine and the command that measured them.

    Args:
        path: the file to write. None writes nothing.
        machine: what ``describe_machine`` returns.
        limits: what ``measure_limits`` returns. It is empty for a benchmark that compares nothing with them.
        results: one dictionary of numbers and names for each measurement.
    """
    if path is not None:
        module = ".".join(Path(sys.argv[0]).with_suffix("").parts[-2:])
        content = {"command": f"python -m {module}", "machine": machine, "limits": limits, "results": results}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
