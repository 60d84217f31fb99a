"""A run's student in another format. Nothing counts as written before it was opened again and compared with the student."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.atomic_files import atomic_files, write_json, write_text
from limbeck.config import Config
from limbeck.data import Splits
from limbeck.errors import ArgumentError, expected_name
from limbeck.export.card import model_card
from limbeck.export.comparing import Comparison, compare
from limbeck.export.formats import FORMATS, Format, Student
from limbeck.export.program import inputs_of
from limbeck.export.scales import Graph, explained_by, scales_after_head
from limbeck.inference import load
from limbeck.run.classes import in_order_of_data
from limbeck.run.folder import STUDENT, check_writable, read_run
from limbeck.run.inputs import load_run_splits
from limbeck.tasks import has_numbers, task_named

RESULT, CARD = "export.json", "README.md"


class ExportError(Exception):
    """An exported student that is not the student. Nothing of it is left."""


@dataclass(frozen=True)
class Exported:
    """A student that was written, opened again and compared."""

    folder: Path
    comparison: Comparison
    size: int
    """The bytes of the model's files."""
    scales: list[str]
    """What the student's own config says that its logits are scaled by."""


def export(
    run: str | Path,
    format_name: str = "onnx",
    *,
    out: str | Path | None = None,
    int8: bool = False,
    licence: str = "unknown",
    functions: Sequence[str] = (),
) -> Exported:
    """Write a run's student in a format, open it again, and compare it with the student on the run's test set.

    Args:
        run: the folder of a finished run.
        format_name: "onnx", "torch-export" or "safetensors".
        out: the folder to write; by default ``export/FORMAT`` in the run's folder.
        int8: replace weights by whole numbers of 8 bits.
        licence: the licence that the model card names, as the Hugging Face hub knows it.
        functions: names ``package.module:function`` that may be called.

    Returns:
        The folder, and how the exported student and the student differ.

    Raises:
        ArgumentError: the format is not known, or has no 8 bits.
        ConfigError: the folder holds no finished run, or ``out`` cannot be written.
        ModelError: the student cannot be loaded, or not be written in this format.
        DataError: the run's data cannot be read.
        ExportError: the exported student is not the student, or something scales its logits.
    """
    if format_name not in FORMATS:
        raise ArgumentError("format", expected_name(format_name, FORMATS))
    chosen, run = FORMATS[format_name], Path(run)
    if int8 and chosen.quantise is None:
        raise ArgumentError("int8", f"is for onnx; {format_name} has no weights of 8 bits here. Leave it out.")
    config = read_run(run)
    folder = run / "export" / (f"{format_name}-int8" if int8 else format_name) if out is None else Path(out)
    check_writable(folder)
    predictor, splits = load(run, functions=functions), load_run_splits(config)
    in_order_of_data(predictor.model, run / STUDENT, splits, key=str(run / STUDENT))  # they are what it was trained on
    test = splits.test
    examples = test.__getitems__([i % len(test) for i in range(max(2, min(8, len(test))))])
    batch = inputs_of(predictor.model, examples, predictor.task)
    student = Student(predictor.model.float(), predictor.preprocessing, run / STUDENT, batch, functions)
    with atomic_files(folder) as aside:
        return _write(student, chosen, aside, folder, config, splits, run, licence, int8=int8)


def _write(
    student: Student, chosen: Format, aside: Path, folder: Path, config: Config, splits: Splits, run: Path, licence: str,
    *, int8: bool,
) -> Exported:  # fmt: skip
    """Write the student into a temporary folder, and check it there."""
    student.preprocessing.save(aside)
    others = {path.name for path in aside.iterdir()}
    chosen.write(student, aside)
    scales = _check_scales(student, chosen.graph(student, aside), folder)
    if int8 and chosen.quantise is not None:
        chosen.quantise(aside)
    comparison = compare(chosen.open(aside, student.functions), student.model, splits.test)
    if fault := comparison.fault(int8=int8):
        raise ExportError(f"{folder}: not written: {fault}.")
    model = [path for path in aside.rglob("*") if path.is_file() and path.name not in {*others, CARD}]
    exported = Exported(folder, comparison, sum(path.stat().st_size for path in model), scales)
    write_json(aside / RESULT, {**dataclasses.asdict(comparison), "bytes": exported.size, "scales": scales})
    write_text(aside / CARD, model_card(config, run, splits, exported, student, licence))
    return exported


def _check_scales(student: Student, graph: Graph, folder: Path) -> list[str]:
    """Return the scales that the student's own config declares, after checking that its logits have no other."""
    if has_numbers(task_named(student.preprocessing.task)):
        return []  # numbers have no temperature
    explained = []
    for scale in scales_after_head(graph):
        entry = explained_by(scale, student.model)
        if entry is None:
            raise ExportError(
                f"{folder}: not written: {scale} is in the student's forward, as if a temperature had been left there. Remove "
                "it; or if it belongs to the architecture, name it in the model's config, as logit_scale."
            )
        explained.append(f"{scale} ({entry})")
    return explained
