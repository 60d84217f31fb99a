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
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The seed, in place of the config's.")]
StoreFolder = Annotated[str, typer.Argument(help="The folder of a store, or its URL.", metavar="STORE")]
