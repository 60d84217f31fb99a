"""The arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[Path, typer.Argument(help="The run's YAML config.", metavar="CONFIG")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")]
Overrides = Annotated[
    list[str],
    typer.Option("--set", help="Set a key of the config, as in distillation.temperature=2. It may be repeated."),
]
Out = Annotated[str | None, typer.Option("--out", help="The run's folder, in place of the config's.")]
Functions = Annotated[
    list[str],
    typer.Option(
        "--function", help="A package.module:function that the run's models need; it is called only if named here."
    ),
]
Trusted = Annotated[
    list[str],
    typer.Option("--trusted", help="A type that the file of the run's estimator may load, as in teacher.trusted."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The seed, in place of the config's.")]
StoreFolder = Annotated[str, typer.Argument(help="The folder of a store, or its URL.", metavar="STORE")]
InputColumn = Annotated[
    str | None,
    typer.Option("--column", help="The column of tables that holds the input; by default found by its name."),
]
MasksOut = Annotated[
    Path | None,
    typer.Option("--out", help="Where each pixel has a class: the folder to write masks to, as PNGs with a palette."),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option("--max-new-tokens", min=1, help="Of a language model: the tokens written at most; by default 64."),
]
WithTeacher = Annotated[
    bool,
    typer.Option(
        "--with-teacher", help="Of a language model: what the teacher writes or fills in, beside the student's text."
    ),
]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Multiply logits by the scale that limbeck calibrate found.")
]
