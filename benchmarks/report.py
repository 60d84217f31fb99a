"""Write what was measured into README and docs, from benchmarks/results/: python -m benchmarks.report

Between the marks ``<!-- measured: NAME -->`` and ``<!-- end -->`` stands what a function of that name here makes of the
results. The suite checks that the pages have what the files say.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import linear, losses

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "explanation" / "speed.md",
    ROOT / "docs" / "how-to" / "store-the-teacher.md",
)


def results(benchmark: str) -> dict:
    """The kept results of one benchmark: of a GPU where there are some, else of a CPU."""
    files = sorted(RESULTS.glob(f"{benchmark}_*.json"), key=lambda path: ("AVX" in path.read_text(), path.name))
    return json.loads(files[0].read_text(encoding="utf-8"))


def headline() -> list[str]:
    """One sentence for the README: the loss on the logits of a language model."""
    kept = results("losses")
    rows = {
        r["name"]: r
        for r in kept["results"]
        if (r["shape"], r["dtype"], r["divergence"]) == ([1024, 32000], "float32", "forward_kl")
    }
    eager, compiled, ours = (rows[name] for name in ("eager", "torch.compile", "limbeck"))
    extra = [f"{row['extra_bytes_per_logit']:.0f}" for row in (ours, eager, compiled)]
    return [
        f"On 1024 x 32,000 logits in float32, the loss and its gradient take {_ms(ours['seconds'])}, where eager torch takes "
        f"{_ms(eager['seconds'])} and `torch.compile` {_ms(compiled['seconds'])}; the extra memory is {extra[0]} bytes for "
        f"each logit, where theirs is {extra[1]} and {extra[2]} ({kept['machine']['device']})."
    ]


def dense() -> list[str]:
    """The default loss at a few sizes."""
    kept = results("losses")
    names = ("eager", "torch.compile", "limbeck", "limbeck, in place")
    lines = [
        "| logits, float32 | eager torch | torch.compile | Limbeck | Limbeck, `inplace=True` |",
        "|---|--:|--:|--:|--:|",
    ]
    chosen = [r for r in kept["results"] if r["dtype"] == "float32" and r["divergence"] == "forward_kl"]
    shapes = list(dict.fromkeys(tuple(r["shape"]) for r in chosen))
    for shape in shapes:
        times = {r["name"]: r["seconds"] for r in chosen if tuple(r["shape"]) == shape}
        cells = [f"{_ms(times[name])} ({times['eager'] / times[name]:.1f}x)" for name in names[1:]]
        lines.append(f"| {shape[0]} x {shape[1]:,} | {_ms(times['eager'])} | {' | '.join(cells)} |")
    extra = {r["name"]: r["extra_bytes_per_logit"] for r in chosen if r["shape"] == [1024, 32000]}
    lines.append(f"| extra memory, bytes per logit | {' | '.join(f'{extra[name]:.0f}' for name in names)} |")
    return lines


def fused() -> list[str]:
    """Projection and loss together."""
    lines = ["| task | | time | to eager | extra memory |", "|---|---|--:|--:|--:|"]
    kept = results("linear")["results"]
    for row in kept:
        first = next(r for r in kept if r["task"] == row["task"])
        name = "**Limbeck**" if row["name"] == "limbeck" else row["name"].replace("eager", "eager torch")
        ratio = f"{first['seconds'] / row['seconds']:.2f}x"
        lines.append(
            f"| {row['task']} | {name} | {_ms(row['seconds'])} | {ratio} | {row['extra_bytes'] / 1e6:.0f} MB |"
        )
    return lines


def every_loss() -> list[str]:
    kept = results("losses")
    return losses.table(kept["results"], kept["limits"])


def every_linear() -> list[str]:
    return linear.table(results("linear")["results"])


def formats() -> list[str]:
    """Accuracy of a student against the bytes of the format that taught it."""
    kept = results("formats")["results"]
    lines = ["| teacher | bytes / example | student, % |", "|---|--:|--:|"]
    for row in kept:
        scores, payload = row["accuracies"], row["payload"]
        error = statistics.stdev(scores) / len(scores) ** 0.5
        name = f"live ({100 * row['teacher']:.1f} %)" if payload is None else f"`{row['name']}`"
        lines.append(
            f"| {name} | {'' if payload is None else f'{payload:.0f}'} | {statistics.mean(scores):.1f} ± {error:.1f} |"
        )
    return lines


def store() -> list[str]:
    kept = {row["name"]: row for row in results("store")["results"]}
    live, stored, alone = (
        kept[f"epoch {name}"]["seconds"] for name in ("with the live teacher", "from the store", "without a teacher")
    )
    lines = [
        "| | |",
        "|---|---|",
        f"| an epoch of the student with the live teacher | {live:.2f} s |",
        f"| the same from the store | {stored:.2f} s, {live / stored:.0f}x as fast |",
        f"| the same without any teacher | {alone:.2f} s; the store adds {100 * (stored / alone - 1):.0f} % |",
        f"| building | {kept['build']['ratio']:.2f} of the bare forward passes |",
    ]
    for name, row in kept.items():
        if name.startswith("read "):
            told = f"{row['rows_per_second'] / 1e6:.1f} million examples/s in random batches of 256"
            each = f"{row['bytes_per_example']:.1f} bytes each (payload {row['payload']:g})"
            rate = f"{row['megabytes_per_second']:.0f} MB/s"
            lines.append(f"| reading `{name.removeprefix('read ')}` | {told}, {each}: {rate} |")
    if "disk" in kept:
        rate = kept["disk"]["bytes_per_second"]
        lines.append(f"| the disk itself, from end to end and uncached | {rate / 1e6:,.0f} MB/s |")
    return lines


def machine() -> list[str]:
    told, limits = results("losses")["machine"], results("losses")["limits"]
    rates = (
        f"{limits['copy_bytes_per_second'] / 1e9:.0f} GB/s copied, {limits['exp2_per_second'] / 1e9:.1f} G exponentials/s, "
        f"{limits['float32_flops_per_second'] / 1e9:.0f} GFLOP/s in float32 products"
    )
    packages = ", ".join(f"{name} {value}" for name, value in told.items() if name != "device")
    return [f"{told['device']}; {packages}. Its limits in the same run: {rates}."]


def filled(text: str, tellers: Mapping[str, Callable[[], list[str]]] | None = None) -> str:
    """A page with the marked places filled, by default by the functions here."""
    tellers = globals() if tellers is None else tellers

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n" + "\n".join(tellers[match[2]]()) + "\n<!-- end -->"

    return re.sub(r"(<!-- measured: (\w+) -->)\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def _ms(seconds: float) -> str:
    ms = 1e3 * seconds
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2f} ms"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(page.relative_to(ROOT))
