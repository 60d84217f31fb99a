"""Write the tables of README and docs from the saved results of the benchmarks.

    python -m benchmarks.report

Each place of a page between ``<!-- measured: NAME -->`` and ``<!-- end -->`` is filled by the function of that name here,
from the files in benchmarks/results/. The suite checks that the pages are what this writes.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import inference, language_model, linear, losses

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "explanation" / "speed.md",
    ROOT / "docs" / "how-to" / "store-the-teacher.md",
    ROOT / "docs" / "how-to" / "export-a-student.md",
)


def results(benchmark: str) -> dict:
    """Return the saved file of one benchmark; a file that was measured on a GPU is preferred to one of a CPU."""
    # Only a CPU's name says which vector instructions it has.
    files = sorted(RESULTS.glob(f"{benchmark}_*.json"), key=lambda path: ("AVX" in path.read_text(), path.name))
    return json.loads(files[0].read_text(encoding="utf-8"))


def headline() -> list[str]:
    """Return the README's sentence about the loss on the logits of a language model."""
    saved = results("losses")
    rows = {
        row["name"]: row
        for row in saved["results"]
        if (row["shape"], row["dtype"], row["divergence"]) == ([1024, 32000], "float32", "forward_kl")
    }
    eager, compiled, limbeck = (rows[name] for name in ("eager", "torch.compile", "limbeck"))
    extra = [f"{row['extra_bytes_per_logit']:.0f}" for row in (limbeck, eager, compiled)]
    times = [_milliseconds(row["seconds"]) for row in (limbeck, eager, compiled)]
    return [
        f"On 1024 x 32,000 logits in float32, the loss and its gradient take {times[0]}, where eager torch takes {times[1]} "
        f"and `torch.compile` {times[2]}; the extra memory is {extra[0]} bytes for each logit, where theirs is {extra[1]} and "
        f"{extra[2]} ({saved['machine']['device']})."
    ]


def dense() -> list[str]:
    """Return the table of the default loss at a few shapes."""
    names = ("eager", "torch.compile", "limbeck", "limbeck, in place")
    lines = [
        "| logits, float32 | eager torch | torch.compile | Limbeck | Limbeck, `inplace=True` |",
        "|---|--:|--:|--:|--:|",
    ]
    rows = [
        row
        for row in results("losses")["results"]
        if row["dtype"] == "float32" and row["divergence"] == "forward_kl"
    ]  # fmt: skip
    for shape in dict.fromkeys(tuple(row["shape"]) for row in rows):
        times = {row["name"]: row["seconds"] for row in rows if tuple(row["shape"]) == shape}
        cells = [f"{_milliseconds(times[name])} ({times['eager'] / times[name]:.1f}x)" for name in names[1:]]
        lines.append(f"| {shape[0]} x {shape[1]:,} | {_milliseconds(times['eager'])} | {' | '.join(cells)} |")
    extra = {row["name"]: row["extra_bytes_per_logit"] for row in rows if row["shape"] == [1024, 32000]}
    lines.append(f"| extra memory, bytes per logit | {' | '.join(f'{extra[name]:.0f}' for name in names)} |")
    return lines


def fused() -> list[str]:
    """Return the table of projection and loss in one."""
    lines = ["| task | | time | to eager | extra memory |", "|---|---|--:|--:|--:|"]
    rows = results("linear")["results"]
    for row in rows:
        eager = next(other for other in rows if other["task"] == row["task"])
        name = "**Limbeck**" if row["name"] == "limbeck" else row["name"].replace("eager", "eager torch")
        ratio = f"{eager['seconds'] / row['seconds']:.2f}x"
        lines.append(
            f"| {row['task']} | {name} | {_milliseconds(row['seconds'])} | {ratio} | {row['extra_bytes'] / 1e6:.0f} MB |"
        )
    return lines


def every_loss() -> list[str]:
    """Return the whole table of ``benchmarks.losses``."""
    saved = results("losses")
    return losses.table(saved["results"], saved["limits"])


def every_linear() -> list[str]:
    """Return the whole table of ``benchmarks.linear``."""
    return linear.table(results("linear")["results"])


def formats() -> list[str]:
    """Return the table of a student's accuracy against the bytes of the format that taught it."""
    lines = ["| teacher | bytes / example | student, % |", "|---|--:|--:|"]
    for row in results("formats")["results"]:
        accuracies, payload = row["accuracies"], row["payload"]
        mean, error = statistics.mean(accuracies), statistics.stdev(accuracies) / len(accuracies) ** 0.5
        name = f"live ({100 * row['teacher']:.1f} %)" if payload is None else f"`{row['name']}`"
        lines.append(f"| {name} | {'' if payload is None else f'{payload:.0f}'} | {mean:.1f} ± {error:.1f} |")
    return lines


def store() -> list[str]:
    """Return the table of building, reading and training from a store."""
    rows = {row["name"]: row for row in results("store")["results"]}
    live, stored, alone = (
        rows[f"epoch {name}"]["seconds"] for name in ("with the live teacher", "from the store", "without a teacher")
    )
    lines = [
        "| | |",
        "|---|---|",
        f"| an epoch of the student with the live teacher | {live:.2f} s |",
        f"| the same from the store | {stored:.2f} s, {live / stored:.0f}x as fast |",
        f"| the same without any teacher | {alone:.2f} s; the store adds {100 * (stored / alone - 1):.0f} % |",
        f"| building | {rows['build']['ratio']:.2f} of the bare forward passes |",
    ]
    for name, row in rows.items():
        if name.startswith("read "):
            speed = f"{row['rows_per_second'] / 1e6:.1f} million examples/s in random batches of 256"
            size = f"{row['bytes_per_example']:.1f} bytes each (payload {row['payload']:g})"
            rate = f"{row['megabytes_per_second']:.0f} MB/s"
            lines.append(f"| reading `{name.removeprefix('read ')}` | {speed}, {size}: {rate} |")
    if "disk" in rows:
        rate = rows["disk"]["bytes_per_second"]
        lines.append(f"| the disk itself, from end to end and uncached | {rate / 1e6:,.0f} MB/s |")
    return lines


def machine() -> list[str]:
    """Return the sentences about the machine that measured the losses: its name, its packages and its limits."""
    saved = results("losses")
    limits = saved["limits"]
    rates = (
        f"{limits['copy_bytes_per_second'] / 1e9:.0f} GB/s copied, {limits['exp2_per_second'] / 1e9:.1f} G exponentials/s, "
        f"{limits['float32_flops_per_second'] / 1e9:.0f} GFLOP/s in float32 products"
    )
    packages = ", ".join(f"{name} {value}" for name, value in saved["machine"].items() if name != "device")
    return [f"{saved['machine']['device']}; {packages}. Its limits in the same run: {rates}."]


def _milliseconds(seconds: float) -> str:
    milliseconds = 1e3 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def language_models() -> list[str]:
    """Return the table of a training step of two language models, and the machine."""
    saved = results("language_model")
    told = saved["machine"]
    versions = ", ".join(f"{name} {told[name]}" for name in ("torch", "trl", "liger-kernel"))
    return [*language_model.table(saved["results"]), "", f"{told['device']}; {versions}."]


def exported() -> list[str]:
    """Return the table of teacher and student in each format, and the machine."""
    saved = results("inference")
    told = saved["machine"]
    versions = ", ".join(f"{name} {told[name]}" for name in ("python", "torch", "onnxruntime"))
    return [*inference.table(saved["results"]), "", f"{told['device']}; {versions}."]


TABLES: dict[str, Callable[[], list[str]]] = {
    table.__name__: table
    for table in (headline, dense, fused, language_models, every_loss, every_linear, formats, store, exported, machine)
}
"""The functions whose names stand in the marks of the pages."""


def filled(text: str, tables: Mapping[str, Callable[[], list[str]]] = TABLES) -> str:
    """Return a page with its marked places filled.

    Args:
        text: the page, with places between ``<!-- measured: NAME -->`` and ``<!-- end -->``.
        tables: the function that returns the lines of each place, by name. By default those of this file.

    Returns:
        The page, in which the lines of each place are new.
    """

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n" + "\n".join(tables[match[2]]()) + "\n<!-- end -->"

    return re.sub(r"(<!-- measured: (\w+) -->)\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(page.relative_to(ROOT))
