"""The command line: its commands and options. The work of each command is in the file of its name.

Nothing heavy is imported before a command needs it, so that ``--help`` is fast.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck import __version__
from limbeck.commands.cache_options import cache_app
from limbeck.commands.calibrate import calibrate_app
from limbeck.commands.check import check_app
from limbeck.commands.command_line import COMMAND
from limbeck.commands.export import export_app
from limbeck.commands.options import (
    Calibrated,
    ConfigPath,
    Functions,
    InputColumn,
    MasksOut,
    MaxNewTokens,
    Out,
    Overrides,
    Resume,
    RunFolder,
    Seed,
    Trusted,
    WithTeacher,
)
from limbeck.commands.printing import print_lines, print_pairs, print_plan, print_prediction, print_table
from limbeck.errors import LimbeckError
from limbeck.interruption import Interrupted, raise_when_interrupted

if TYPE_CHECKING:
    from limbeck.commands.compare import ComparisonResult

IOU_TITLE = "Intersection over union of each class, %"

app = typer.Typer(
    name="limbeck",
    help="Knowledge distillation: train a small model on the softened outputs of a large one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"limbeck {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; accepted at any position.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[str | None, typer.Option("--out", help="The run's folder; by default runs/demo.")] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Distil a digit classifier, compare it with baselines, and keep a model that predicts; under two minutes."""
    from limbeck.commands.demo import OMITTED, omitted_class_finding, omitted_class_table, run_demo

    result = run_demo(out, overrides)
    comparison = result.comparison
    _show_comparison(comparison)
    title = f"No student ever saw a {OMITTED}: how many of its test images it still gets right"
    print_table(title, omitted_class_table(result.omitted))
    print_lines([omitted_class_finding(result.omitted)])
    print_pairs({**result.files, "student": f"{result.files['student']}  ({comparison.best}, the best on validation)"})
    typer.echo(f"\nTry it:  limbeck predict {result.folder} {result.folder / 'images'}")


@app.command()
def distill(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    seed: Seed = None,
    resume: Resume = False,
    check: Annotated[
        bool, typer.Option("--check", help="Look at the data and models, print the plan and stop; nothing is written.")
    ] = False,
) -> None:
    """Train the student that CONFIG describes, and write a run folder."""
    from limbeck.commands.distill import check as check_config
    from limbeck.commands.distill import distill as distill_config
    from limbeck.commands.distill import read_metrics
    from limbeck.commands.temperature_search import describe_choice, resolve_temperature
    from limbeck.config import load_config
    from limbeck.distributed import end_process_group
    from limbeck.run.folder import METRICS, REPORT, STUDENT

    settings = load_config(config, _all_overrides(overrides, out, seed))
    if check:
        print_plan(check_config(settings, resume=resume))
        return
    with _resumed_by_option(Path(settings.out)):
        settings, choice = resolve_temperature(settings, resume=resume)
        if choice is not None and _is_main_process():
            print_lines(describe_choice(choice, settings.search))
        folder = distill_config(settings, resume=resume)
    if _is_main_process():
        told = read_metrics(folder)
        _show_metrics("Test results (T = 1)", told["results"])
        print_lines(told.get("findings", []))
        print_pairs({"student": folder / STUDENT, "report": folder / REPORT, "metrics": folder / METRICS})
    end_process_group()


@app.command()
def compare(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    seed: Seed = None,
    resume: Resume = False,
) -> None:
    """Train CONFIG's student alone, on hard labels and on soft targets, over several seeds, and compare them."""
    from limbeck.commands.compare import compare as compare_config
    from limbeck.config import load_config
    from limbeck.run.folder import METRICS, REPORT, STUDENT

    settings = load_config(config, _all_overrides(overrides, out, seed))
    with _resumed_by_option(Path(settings.out)):
        result = compare_config(settings, resume=resume)
    _show_comparison(result)
    folder = result.folder
    student = f"{folder / STUDENT}  ({result.best}, the best on validation)"
    print_pairs({"student": student, "report": folder / REPORT, "metrics": folder / METRICS})


@app.command()
def evaluate(run: RunFolder, functions: Functions = [], trusted: Trusted = []) -> None:  # noqa: B006
    """Measure a run's student on its test set again, at T = 1."""
    from limbeck.commands.evaluate import evaluate as evaluate_run

    _show_metrics("Test results (T = 1)", evaluate_run(run, functions=functions, trusted=trusted))


@app.command()
def predict(
    run: RunFolder,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images; or texts, and .txt files with a text on each line. For both: folders, CSV, JSONL and Parquet "
            "files, and - for the lines of the standard input. Rows of tables: the same files, and folders of them.",
            metavar="INPUT...",
        ),
    ],
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on each line, with every probability.")
    ] = False,
    column: InputColumn = None,
    out: MasksOut = None,
    max_new_tokens: MaxNewTokens = None,
    with_teacher: WithTeacher = False,
    calibrated: Calibrated = False,
    functions: Functions = [],  # noqa: B006
) -> None:
    """Predict with a run's student: labels, and probabilities from plain softmax (T = 1). A language model goes on with a text.

    An input that cannot be read is told and does not stop the others; the exit status is then 1.
    """
    from limbeck.commands.predict import predict as predict_run

    unreadable = 0
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens, "with_teacher": with_teacher, "calibrated": calibrated,
    }  # fmt: skip
    for prediction in predict_run(run, inputs, functions=functions, column=column, out=out, **options):
        if prediction.error is not None:
            unreadable += 1
            typer.echo(prediction.error, err=True)
        else:
            print_prediction(prediction, as_json=json)
    if unreadable:
        typer.echo(f"{unreadable} {'input' if unreadable == 1 else 'inputs'} could not be read.", err=True)
        raise typer.Exit(1)


app.add_typer(check_app)
app.add_typer(export_app)
app.add_typer(calibrate_app)

app.add_typer(cache_app, name="cache")

temperature_app = typer.Typer(help="See what each temperature does, or search for the best one.", no_args_is_help=True)
app.add_typer(temperature_app, name="temperature")


@temperature_app.command("analyze")
def temperature_analyze(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write to; by default analysis/ in the run's folder.")
    ] = None,
    student: Annotated[
        Path | None, typer.Option("--student", help="The folder of a run, for its student's logits.")
    ] = None,
) -> None:
    """Measure what each temperature does to the soft targets of CONFIG's teacher, without training a student."""
    from limbeck.commands.temperature_analyze import ANALYSIS, analyze_temperatures, describe_calibration
    from limbeck.config import load_config
    from limbeck.report import analysis_table
    from limbeck.run.folder import REPORT

    settings = load_config(config, overrides)
    folder = out or Path(settings.out) / "analysis"
    found = analyze_temperatures(settings, folder, student=student)
    print_table(f"Soft targets of {found.examples:,} training examples", analysis_table(found))
    if found.calibration is not None:
        print_lines([describe_calibration(found.calibration)])
    print_lines([found.conclusion])
    print_pairs({"page": folder / REPORT, "numbers": folder / ANALYSIS})


@temperature_app.command("search")
def temperature_search(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    seed: Seed = None,
) -> None:
    """Find the temperature for CONFIG's student by training a few; continue a search, alone or with other workers."""
    from limbeck.commands.temperature_search import CHOICE, SEARCH, describe_choice, search_temperature
    from limbeck.config import load_config
    from limbeck.report import search_table
    from limbeck.run.folder import REPORT

    settings = load_config(config, _all_overrides(overrides, out, seed))
    folder = Path(settings.out) / SEARCH
    choice = search_temperature(settings, folder)
    print_table("Validation", search_table(choice))
    print_lines(describe_choice(choice, settings.search))
    print_pairs({"page": folder / REPORT, "choice": folder / CHOICE})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Print one line for each fault in what the user gave, and exit with status 2.

    Args:
        arguments: the words after the program's name; None for those that the program was started with.

    Raises:
        SystemExit: always, with the exit status: 2 for a fault in what the user gave, 130 after Ctrl-C, 143 after SIGTERM.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "" not in sys.path:  # a config may name a function in a module beside it, as with python -m limbeck
        sys.path.insert(0, "")
    debug = "--debug" in given
    told, formatted = COMMAND.set(given), warnings.formatwarning
    if not debug:  # whoever runs a command needs no line of code
        warnings.formatwarning = lambda message, *_args, **_named: f"Warning: {message}\n"
    os.environ.setdefault(
        "HF_DATASETS_DISABLE_PROGRESS_BARS", "1"
    )  # they would stand between the lines that are printed
    try:
        with raise_when_interrupted():
            app([argument for argument in given if argument != "--debug"])
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            typer.echo(_how_to_go_on(stop, given), err=True)
        sys.exit(128 + stop.signal)
    except LimbeckError as error:
        if debug:
            raise
        if os.environ.get("RANK", "0") == "0":  # only one of several processes prints
            for fault in error.faults:
                typer.echo(fault, err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if debug or error.name is None or error.name.startswith("limbeck"):
            raise
        from limbeck.commands.missing import missing_package_message

        typer.echo(missing_package_message(error.name), err=True)
        sys.exit(2)
    finally:
        COMMAND.reset(told)
        warnings.formatwarning = formatted


def _all_overrides(overrides: list[str], out: str | None, seed: int | None) -> list[str]:
    """Return the overrides of ``--set``, ``--out`` and ``--seed`` together."""
    given = [*overrides]
    if out is not None:
        given.append(f"out={out}")
    if seed is not None:
        given.append(f"seed={seed}")
    return given


@contextmanager
def _resumed_by_option(folder: Path) -> Iterator[None]:
    """Let ``Interrupted`` know whether the command in the block goes on with ``--resume``, or must be started anew."""
    from limbeck.run.folder import is_begun

    try:
        yield
    except Interrupted as stop:
        stop.option = "--resume" if is_begun(folder) else ""
        raise


def _how_to_go_on(stop: Interrupted, given: Sequence[str]) -> str:
    """Return what a stopped command has finished, and the command that goes on."""
    more = [stop.option] if stop.option and stop.option not in given else []
    launcher = ", started by the same launcher" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    return f"Stopped. {stop.finished} Go on with: {shlex.join(['limbeck', *given, *more])}{launcher}".replace("  ", " ")


def _is_main_process() -> bool:
    from limbeck.distributed import process_state

    return process_state().is_main_process


def _show_metrics(title: str, results: dict[str, dict[str, float]]) -> None:
    from limbeck.report import class_table, metrics_table

    print_table(title, metrics_table(results))
    print_table(IOU_TITLE, class_table(results))


def _show_comparison(result: ComparisonResult) -> None:
    from limbeck.report import class_table, comparison_table

    print_lines([result.headline] if result.headline else [])
    print_table("Test results (T = 1)", comparison_table(result.teacher_metrics, result.arms))
    print_table(IOU_TITLE, class_table(result.means))
    print_lines([result.caption])
    print_lines(result.findings)
