"""The model card of an exported student, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

import limbeck
from limbeck.config import Config
from limbeck.data import Splits
from limbeck.evaluation import ArmResult
from limbeck.export.program import is_tokens
from limbeck.models import count_parameters
from limbeck.run.folder import METRICS
from limbeck.tasks import has_numbers, task_named

if TYPE_CHECKING:
    from limbeck.export.exporting import Exported
    from limbeck.export.formats import Student


def model_card(config: Config, run: Path, splits: Splits, exported: Exported, student: Student, licence: str) -> str:
    """Return the model card of an exported student.

    Args:
        config: its run.
        run: the run's folder, whose ``metrics.json`` is read.
        splits: the run's examples.
        exported: what was written.
        student: the student.
        licence: the licence to name.
    """
    from huggingface_hub import ModelCardData

    task, compared = task_named(splits.task), exported.comparison
    told = json.loads((run / METRICS).read_text(encoding="utf-8")) if (run / METRICS).is_file() else {}
    measured = {
        **told.get("results", {}).get("student", {}),
        **told.get("arms", {}).get(told.get("best_on_validation"), {}),
    }
    metadata = ModelCardData(
        license=licence,
        base_model=_hub_ids([config.student.model]),
        datasets=_hub_ids([config.data.name]),
        tags=["limbeck", "knowledge-distillation", splits.task],
        metrics=[name for name in task.columns if name in measured] or None,
    )
    temperature = (
        "It has no temperature."
        if has_numbers(task)
        else (
            "It is used at T = 1: the graph was walked from its output to its head, and nothing scales the logits"
            + (f" but what the model's config declares: {'; '.join(exported.scales)}." if exported.scales else ".")
        )
    )
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {_shown(config.student.model)} distilled with Limbeck",
        f"A student with {count_parameters(student.model):,} parameters for {splits.task}, distilled from "
        f"{_teacher(config)} on {_shown(config.data.name)}. {temperature}",
        _table([["", "value"], *_settings(config, splits)]),
        *_results(told),
        "## Compared with the student before it was written",
        f"On {compared.examples} examples of the test set the outputs differ by {compared.largest_difference:.3g} at most, "
        f"where the largest is {compared.largest_logit:.3g}; the {task.likeness} is {compared.agreement:.4f}. One example "
        f"takes {compared.milliseconds:.3g} ms (median; the student in torch {compared.student_milliseconds:.3g} ms).",
        "## Use",
        _use(student, splits),
    ]
    return "\n\n".join(parts) + "\n"


def _teacher(config: Config) -> str:
    names = [_shown(model.model) for model in config.teacher.models if model.model]
    return " and ".join(names) or "stored outputs of a teacher"


def _shown(name: str) -> str:
    """Return the name of a model or of data; of a file or folder the last part of its path alone."""
    return Path(name).name if Path(name).exists() or Path(name).is_absolute() else name


def _hub_ids(names: list[str]) -> Any:
    """Return the names that may be ids of the hub, or None."""
    return [
        name for name in names if name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists()
    ] or None


def _settings(config: Config, splits: Splits) -> list[list[str]]:
    """Return the rows of the table of what ran."""
    told = config.distillation.model_dump(exclude_defaults=False)
    shown = {name: told[name] for name in ("temperature", "alpha", "divergence") if name in told}
    counts = {"training examples": len(splits.train), "test examples": len(splits.test)}
    rows = {"data": _shown(config.data.name), **counts, **shown, "seed": config.seed, "Limbeck": limbeck.__version__}
    return [[name, str(value)] for name, value in rows.items()]


def _results(told: dict[str, Any]) -> list[str]:
    """Return the section about the test results, or nothing."""
    from limbeck.report import comparison_table, metrics_table

    if "results" in told:
        table = metrics_table(told["results"])
    elif "arms" in told:
        arms = {name: ArmResult(name, metrics) for name, metrics in told["arms"].items()}
        table = comparison_table(told["teacher"], arms)
    else:
        return []
    of_arm = [f"This student is: {told['best_on_validation']}."] if "best_on_validation" in told else []
    return ["## Test results (T = 1)", _table(table), *of_arm, *told.get("findings", [])]


def _table(rows: Any) -> str:
    """Return a table in Markdown; the first row is its header."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _use(student: Student, splits: Splits) -> str:
    """Return what goes in and what comes out."""
    read, target = student.preprocessing, student.preprocessing.target
    inputs = ", ".join(f"`{name}` {_shape(value)}" for name, value in student.batch.items())
    lines = [
        f"Inputs: {inputs}. `inputs.json` says how they are made"
        + (", and the tokenizer is beside it." if read.tokenizer is not None else "."),
    ]
    if target is not None:
        lines.append(f"Outputs are standardised: multiply them by {target.std} and add {target.mean}.")
    elif read.label_names:
        lines.append(f"Outputs are logits of the classes {', '.join(read.label_names[:20])}, in this order.")
    if splits.task in ("causal_lm", "encoder_decoder"):
        lines.append(
            "The graph reads a whole text and has no cache of keys and values, so that writing takes a pass for each token."
        )
    if "decoder_input_ids" in student.batch:
        lines.append(
            "The decoder reads its first token and then what was written; the logits are of the tokens that come next. The "
            "source and the target have a length of their own each."
        )
    return " ".join(lines)


def _shape(value: Tensor) -> str:
    """Return the shape of an input, with N examples and L tokens."""
    return f"(N, {'L' if is_tokens(value) else ', '.join(map(str, value.shape[1:]))})"
