"""What the numbers were measured on, what that machine can do at best, and how time and memory are taken."""

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


def begin(doc: str | None, *, compiles: bool = False) -> argparse.Namespace:
    """The arguments of a benchmark: where to keep the results, and whether torch.compile takes part."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", type=Path, help="keep the results as JSON")
    if compiles:
        parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    return parser.parse_args()


def introduce() -> tuple[dict[str, str], dict[str, float]]:
    """Tell what this is measured on; the same, and the machine's limits."""
    told, rates = describe(), limits()
    print(*(f"{name}: {value}" for name, value in told.items()), sep="\n")
    print(f"copy {rates['copy_bytes_per_second'] / 1e9:.1f} GB/s, exp2 {rates['exp2_per_second'] / 1e9:.2f} G/s\n")
    return told, rates


def describe() -> dict[str, str]:
    """The hardware's name and what runs on it."""
    told = {"device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else _processor()}
    told["python"] = platform.python_version()
    for package in ("torch", "triton", "liger-kernel", "trl", "torchtune"):
        try:
            told[package] = version(package)
        except PackageNotFoundError:
            told[package] = "not installed"
    return told


def _processor() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        name = next((value.strip() for key, value in lines.items() if key.strip() == "model name"), name)
    return f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def seconds(call: Callable[[], object], *, repeats: int = 5, at_least: float = 0.2) -> float:
    """The least time of one call: after a warm-up, over ``repeats`` rounds of about ``at_least`` seconds in all."""
    _wait_for(call)
    loops = max(1, round(at_least / repeats / max(1e-9, _wait_for(call))))
    rounds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(loops):
            call()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        rounds.append((time.perf_counter() - start) / loops)
    return min(rounds)


def _wait_for(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def limits() -> dict[str, float]:
    """Measured rates: bytes moved by a copy of memory (read and written), exponentials, products of large matrices."""
    large = 1 << (28 if DEVICE.type == "cuda" else 25)
    source = torch.randn(large, device=DEVICE)
    target = torch.empty_like(source)
    small = source[: large if DEVICE.type == "cuda" else 1 << 18]
    out = target[: len(small)]
    side = 8192 if DEVICE.type == "cuda" else 2048
    rates = {
        "copy_bytes_per_second": 8 * len(source) / seconds(lambda: target.copy_(source)),
        "exp2_per_second": len(small) / seconds(lambda: torch.exp2(small, out=out)),
    }
    for dtype in (torch.float32, torch.bfloat16):
        a = source[: side * side].reshape(side, side).to(dtype)
        product = torch.empty_like(a)
        name = f"{str(dtype).removeprefix('torch.')}_flops_per_second"
        rates[name] = 2 * side**3 / seconds(lambda a=a, product=product: torch.mm(a, a, out=product), repeats=3)
    return rates


def peak_bytes(call: Callable[[], object]) -> int | None:
    """By how much a call raises the memory in use at its peak; None where the system does not tell."""
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
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what an earlier call has freed is still in use
        clear.write_text("5")  # resets the peak
        before = _kilobytes(status.read_text(), "VmRSS")
        call()
        return 1024 * max(0, _kilobytes(status.read_text(), "VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _kilobytes(status: str, name: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def keep(path: Path | None, told: dict[str, str], limits: dict[str, float], results: list[dict]) -> None:
    """The results as JSON, with the hardware's name and the command."""
    if path is not None:
        command = " ".join(["python -m", *(Path(sys.argv[0]).with_suffix("").parts[-2:])]).replace(
            "benchmarks ", "benchmarks."
        )
        kept = {"command": command, "machine": told, "limits": limits, "results": results}
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
