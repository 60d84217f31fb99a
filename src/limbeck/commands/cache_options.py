"""``limbeck cache``: its commands and options. Their work is in ``cache.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.commands.options import ConfigPath, Overrides, StoreFolder
from limbeck.commands.printing import print_pairs, print_table

cache_app = typer.Typer(help="Store a teacher's outputs on the disk, and train from them.", no_args_is_help=True)


@cache_app.command("build")
def cache_build(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[
        str | None, typer.Option("--out", help="The store's folder or URL, in place of teacher.cache.")
    ] = None,
) -> None:
    """Run CONFIG's teacher over its training examples once, and write the store; continue a store that was begun."""
    from limbeck.commands.cache import build_cache, size_line
    from limbeck.config import load_config
    from limbeck.distributed import end_process_group, process_state
    from limbeck.store import TeacherStore

    settings = load_config(config, overrides)
    built, formats = build_cache(settings, out)
    if process_state().is_main_process:
        print_table("Formats, on the same examples (payload)", formats)
        folder = str(out or settings.teacher.cache)
        done = f"{built.written} shards written, {built.found} were there; {built.seconds:.1f} s"
        print_pairs({"store": folder, "bytes": size_line(TeacherStore(folder)), "done": done})
    end_process_group()


@cache_app.command("info")
def cache_info(store: StoreFolder) -> None:
    """Show what a store holds, and how large it would be in other formats."""
    from limbeck.commands.cache import sizes_table, store_table

    for name, value in store_table(store)[1:]:
        typer.echo(f"{name:<16}  {value}")
    print_table("The same data in other formats (payload)", sizes_table(store))


@cache_app.command("verify")
def cache_verify(store: StoreFolder) -> None:
    """Find every shard that is missing, incomplete, foreign or changed; exit with status 2 if there is one."""
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
