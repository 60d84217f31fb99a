"""What the numbers were measured on, and what that machine can do at best."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def describe() -> dict[str, str]:
    """The hardware's name and what runs on it."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        processor = next((value.strip() for key, value in lines.items() if key.strip() == "model name"), processor)
    return {
        "processor": f"{processor}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def seconds(call: Callable[[], object], *, repeats: int = 5, at_least: float = 0.2) -> float:
    """The least time of one call: after a warm-up, over ``repeats`` rounds of about ``at_least`` seconds in all."""
    call()
    start = time.perf_counter()
    call()
    loops = max(1, round(at_least / repeats / max(1e-9, time.perf_counter() - start)))
    rounds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(loops):
            call()
        rounds.append((time.perf_counter() - start) / loops)
    return min(rounds)


def limits() -> dict[str, float]:
    """Measured rates: bytes moved by a copy of memory (read and written), exponentials in cache."""
    source, target = torch.randn(1 << 25), torch.empty(1 << 25)
    small = torch.randn(1 << 18)
    out = torch.empty_like(small)
    return {
        "copy_bytes_per_second": 8 * len(source) / seconds(lambda: target.copy_(source)),
        "exp2_per_second": len(small) / seconds(lambda: torch.exp2(small, out=out)),
    }


def peak_bytes(call: Callable[[], object]) -> int | None:
    """By how much a call raised the process's resident memory at its peak; None where the system does not tell."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        call()
        clear.write_text("5")  # resets the peak
        before = _kilobytes(status.read_text(), "VmRSS")
        call()
        return 1024 * max(0, _kilobytes(status.read_text(), "VmHWM") - before)
    except OSError:
        return None


def _kilobytes(status: str, name: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))
