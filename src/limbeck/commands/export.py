"""``limbeck export``: a run's student in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.commands.options import Functions, RunFolder
from limbeck.commands.printing import print_pairs

export_app = typer.Typer()


@export_app.command()
def export(
    run: RunFolder,
    format_name: Annotated[
        str, typer.Option("--format", help="onnx, torch-export or safetensors.", metavar="FORMAT")
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights of 8 bits; activations follow while it runs. For onnx.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; by default export/FORMAT in the run's folder.")
    ] = None,
    licence: Annotated[
        str, typer.Option("--license", help="The licence in the model card, as the hub names it: apache-2.0.")
    ] = "unknown",
    functions: Functions = [],  # noqa: B006
) -> None:
    """Write a run's student as ONNX, as a program of torch.export or as safetensors, with a model card.

    It is opened again in its own runtime and compared with the student on test examples, and its graph is searched for a
    temperature. If either fails, nothing is left, and the exit status is 1.
    """
    from limbeck.export.exporting import ExportError
    from limbeck.export.exporting import export as export_run

    try:
        exported = export_run(run, format_name, out=out, int8=int8, licence=licence, functions=functions)
    except ExportError as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(1) from None
    found = exported.comparison
    print_pairs(
        {
            "compared on": f"{found.examples} test examples",
            "largest difference": f"{found.largest_difference:.3g} (largest logit {found.largest_logit:.3g})",
            "agreement": f"{found.agreement:.4f}",
            "one example": f"{found.milliseconds:.3g} ms (the student in torch: {found.student_milliseconds:.3g} ms)",
            "size": f"{exported.size:,} bytes",
            "after the head": "; ".join(exported.scales) or "nothing: the logits are the student's own",
            "folder": exported.folder,
        }
    )
