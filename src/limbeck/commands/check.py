"""``limbeck check``: is a distillation loss right?"""

from __future__ import annotations

from typing import Annotated

import typer

from limbeck.commands.printing import print_lines, print_table
from limbeck.errors import ArgumentError

check_app = typer.Typer()


@check_app.command()
def check(
    loss: Annotated[
        str, typer.Argument(help="The loss, as package.module:loss, importable from here.", metavar="LOSS")
    ],
    call: Annotated[
        str | None,
        typer.Option("--call", help="How it is called, in Python: loss(student, teacher, labels, alpha=0.5, T=T)."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="Of the logits: 6,7 for rows, 3,4,7 for sequences of positions.")
    ] = None,
    accept: Annotated[
        list[str], typer.Option("--accept", help="A property that is meant to be as it is. It may be repeated.")
    ] = [],  # noqa: B006
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also where the loss is right on ordinary input alone.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Examine anybody's distillation loss by its behaviour; exit with status 1 if something is wrong."""
    import json as writer

    from limbeck.check.calling import call_from_text, import_loss
    from limbeck.check.checking import check_accepted, check_loss, faults_of

    check_accepted(accept)
    sizes = None if shape is None else _sizes(shape)
    examined = import_loss(loss)
    report = check_loss(examined, call=None if call is None else call_from_text(call, examined), shape=sizes)
    if json:
        typer.echo(writer.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False))
    else:
        print_table(f"{loss}: {report.formula}", report.table())
        print_lines(report.fixes())
    if faults_of(report, accept=accept, strict=strict):
        raise typer.Exit(1)


def _sizes(shape: str) -> list[int]:
    try:
        return [int(size) for size in shape.split(",")]
    except ValueError:
        raise ArgumentError("shape", f"expected sizes with commas, such as 6,7 or 3,4,7, got {shape!r}.") from None
