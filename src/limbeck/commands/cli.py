"""The command line: thin commands over the files of this room.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck import __version__
from limbeck.errors import LimbeckError

app = typer.Typer(
    name="limbeck",
    help="Knowledge distillation: train a small model on the softened outputs of a large one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(help="The run's YAML config.", metavar="CONFIG")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Override a key of the config, as in distillation.temperature=2.")
]
Out = Annotated[str | None, typer.Option("--out", help="The run's folder, in place of the config's.")]
Functions = Annotated[
    list[str],
    typer.Option(
        "--function", help="A package.module:function that the run's models need; it is called only if named here."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The seed, in place of the config's.")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"limbeck {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works in any place.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def demo(out: Out = None, overrides: Overrides = []) -> None:  # noqa: B006
    """Distil a digit classifier, compare it honestly, and leave a model that predicts; under two minutes."""
    from limbeck.commands.demo import OMITTED, omitted_finding, omitted_rows, run_demo
    from limbeck.report import arm_rows

    result = run_demo(out, overrides)
    comparison = result.comparison
    _table("Test results (T = 1, ± standard error over seeds)", arm_rows(comparison.teacher_metrics, comparison.arms))
    _lines(comparison.findings)
    _table(f"No student ever saw a {OMITTED}: how many of its test images it still gets", omitted_rows(result.omitted))
    _lines([omitted_finding(result.omitted)])
    _files({**result.files, "student": f"{result.files['student']}  ({comparison.best}, the best on validation)"})
    typer.echo(f"\nTry it:  limbeck predict {result.folder} {result.folder / 'images'}")


@app.command()
def distill(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    seed: Seed = None,
    resume: Resume = False,
) -> None:
    """Train the student that CONFIG describes, and leave a run folder."""
    from limbeck.commands.distill import distill as distill_config
    from limbeck.commands.temperature import choice_lines, with_chosen_temperature
    from limbeck.config import load_config
    from limbeck.distributed import end_process_group
    from limbeck.run.folder import METRICS, REPORT, STUDENT

    settings, choice = with_chosen_temperature(load_config(config, _all_overrides(overrides, out, seed)), resume=resume)
    if choice is not None and _is_main_process():
        _lines(choice_lines(choice, settings.search))
    folder = distill_config(settings, resume=resume)
    if _is_main_process():
        _show_metrics("Test results (T = 1)", _read_results(folder))
        _files({"student": folder / STUDENT, "report": folder / REPORT, "metrics": folder / METRICS})
    end_process_group()


@app.command()
def compare(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    seed: Seed = None,
    resume: Resume = False,
) -> None:
    """Was it worth it? Train CONFIG's student alone, on hard labels and on soft targets, over several seeds."""
    from limbeck.commands.compare import compare_run
    from limbeck.config import load_config
    from limbeck.report import arm_rows
    from limbeck.run.folder import METRICS, REPORT, STUDENT

    folder, result = compare_run(load_config(config, _all_overrides(overrides, out, seed)), resume=resume)
    _table("Test results (T = 1, ± standard error over seeds)", arm_rows(result.teacher_metrics, result.arms))
    _lines(result.findings)
    student = f"{folder / STUDENT}  ({result.best}, the best on validation)"
    _files({"student": student, "report": folder / REPORT, "metrics": folder / METRICS})


@app.command()
def evaluate(run: RunFolder, functions: Functions = []) -> None:  # noqa: B006
    """Measure a run's student on its test set again, at T = 1."""
    from limbeck.commands.evaluate import evaluate as evaluate_run

    _show_metrics("Test results (T = 1)", evaluate_run(run, functions=functions))


@app.command()
def predict(
    run: RunFolder,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Images or a folder of them; texts, or a .txt file with one a line.", metavar="INPUT..."),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, with every probability.")] = False,
    functions: Functions = [],  # noqa: B006
) -> None:
    """Predict with a run's student: labels, and probabilities from plain softmax (T = 1)."""
    import dataclasses
    import json as writer

    from limbeck.commands.predict import predict as predict_run

    for prediction in predict_run(run, inputs, functions=functions):
        if json:
            typer.echo(writer.dumps(dataclasses.asdict(prediction), ensure_ascii=False))
            continue
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:3]
        shown = "  ".join(f"{label} {probability:.3f}" for label, probability in ranked)
        typer.echo(f"{prediction.input}\t{prediction.label}\t{shown}")


cache_app = typer.Typer(help="Keep what a teacher says on the disk, and train from it.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
StoreFolder = Annotated[str, typer.Argument(help="The folder of a store, or its URL.", metavar="STORE")]


@cache_app.command("build")
def cache_build(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[
        str | None, typer.Option("--out", help="The store's folder or URL, in place of teacher.cache.")
    ] = None,
) -> None:
    """Run CONFIG's teacher over its training examples once, and write the store; again, and it goes on."""
    from limbeck.commands.cache import build_cache
    from limbeck.config import load_config
    from limbeck.distributed import end_process_group

    settings = load_config(config, overrides)
    built, formats = build_cache(settings, out)
    if _is_main_process():
        _table("Formats, on the same examples", formats)
        done = f"{built.written} shards written, {built.found} were there; {built.seconds:.1f} s"
        _files({"store": out or settings.teacher.cache, "done": done})
    end_process_group()


@cache_app.command("info")
def cache_info(store: StoreFolder) -> None:
    """What a store holds, and what other formats would take."""
    from limbeck.commands.cache import cost_rows, store_rows

    for name, value in store_rows(store)[1:]:
        typer.echo(f"{name:<16}  {value}")
    _table("The same data in other formats (payload)", cost_rows(store))


@cache_app.command("verify")
def cache_verify(store: StoreFolder) -> None:
    """Find every shard that is missing, cut short, foreign or changed; exit status 2 when there is one."""
    from limbeck.errors import StoreError
    from limbeck.store import verify

    if faults := verify(store):
        raise StoreError(*faults)
    typer.echo(f"{store}: whole")


@cache_app.command("export")
def cache_export(
    store: StoreFolder,
    parquet: Annotated[Path, typer.Option("--parquet", help="The Parquet file to write.")],
) -> None:
    """Write a store as one Parquet file, for every other tool."""
    from limbeck.commands.cache import export_parquet

    export_parquet(store, parquet)
    typer.echo(str(parquet))


temperature_app = typer.Typer(
    help="Which temperature? See what each does, or search for the best.", no_args_is_help=True
)
app.add_typer(temperature_app, name="temperature")


@temperature_app.command("analyze")
def temperature_analyze(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to; by default analysis/ in the run's folder.")
    ] = None,
    student: Annotated[
        Path | None, typer.Option("--student", help="The folder of a run, for its student's logits.")
    ] = None,
) -> None:
    """What each temperature does to the soft targets of CONFIG's teacher, without training."""
    from limbeck.commands.temperature import ANALYSIS, analyze_config
    from limbeck.config import load_config
    from limbeck.report import analysis_rows
    from limbeck.run.folder import REPORT

    settings = load_config(config, overrides)
    folder = out or Path(settings.out) / "analysis"
    found = analyze_config(settings, folder, student=student)
    _table(f"Soft targets of {found.examples:,} training examples", analysis_rows(found))
    if found.calibration is not None:
        _lines([f"Calibration: dividing the teacher's logits by {found.calibration.temperature:.2f} would make it honest; this"
                " is about its own predictions, and is not the temperature of distillation."])  # fmt: skip
    _files({"page": folder / REPORT, "numbers": folder / ANALYSIS})


@temperature_app.command("search")
def temperature_search(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    seed: Seed = None,
) -> None:
    """Find the temperature for CONFIG's student by training a few; again, and it goes on. Several workers may share it."""
    from limbeck.commands.temperature import CHOICE, SEARCH, choice_lines, search_config
    from limbeck.config import load_config
    from limbeck.report import search_rows
    from limbeck.run.folder import REPORT

    settings = load_config(config, _all_overrides(overrides, out, seed))
    folder = Path(settings.out) / SEARCH
    choice = search_config(settings, folder)
    _table("Validation", search_rows(choice))
    _lines(choice_lines(choice, settings.search))
    _files({"page": folder / REPORT, "choice": folder / CHOICE})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a fault in what the user gave ends in a line each and exit status 2."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    try:
        app([argument for argument in given if argument != "--debug"])
    except LimbeckError as error:
        if debug:
            raise
        if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
            for fault in error.faults:
                typer.echo(fault, err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if debug or error.name is None or error.name.startswith("limbeck"):
            raise
        extra = {"matplotlib": "report", "jinja2": "report", "optuna": "search"}.get(error.name, "train")
        typer.echo(f"{error.name} is not installed. Add it with: pip install 'limbeck[{extra}]'", err=True)
        sys.exit(2)


def _all_overrides(overrides: list[str], out: str | None, seed: int | None) -> list[str]:
    given = [*overrides]
    if out is not None:
        given.append(f"out={out}")
    if seed is not None:
        given.append(f"seed={seed}")
    return given


def _is_main_process() -> bool:
    from limbeck.distributed import process_state

    return process_state().is_main_process


def _read_results(folder: Path) -> dict[str, dict[str, float]]:
    import json

    from limbeck.run.folder import METRICS

    return json.loads((folder / METRICS).read_text(encoding="utf-8"))["results"]


def _show_metrics(title: str, results: dict[str, dict[str, float]]) -> None:
    from limbeck.report import metric_rows

    _table(title, metric_rows(results))


def _table(title: str, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    typer.secho(f"\n{title}", bold=True)
    for row in rows:
        cells = [
            f"{cell:>{width}}" if i else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def _lines(lines: Sequence[str]) -> None:
    typer.echo("")
    for line in lines:
        typer.echo(line)


def _files(files: dict[str, Any]) -> None:
    typer.echo("")
    width = max(map(len, files))
    for name, path in files.items():
        typer.echo(f"{name:<{width}}  {path}")
