"""Write the generated parts of ``docs/reference/``.

    python docs/make_reference.py

The text between ``<!-- generated: WHAT -->`` and ``<!-- end -->`` is made from the code. WHAT is one of:

- ``names MODULE``: the public names of a module, for mkdocstrings
- ``overview``: a table of the names that ``limbeck`` itself exports
- ``registry MODULE NAME``: a table of the classes in a registry
- ``config``: every key of a config
- ``commands``: every command

The pages are in git, so that they can be read beside the code. The suite checks that they are up to date.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "reference"
PUBLIC = {
    "limbeck": "index.md",
    "limbeck.losses": "losses.md",
    "limbeck.teachers": "teachers.md",
    "limbeck.store": "store.md",
    "limbeck.temperature": "temperature.md",
    "limbeck.data": "data.md",
    "limbeck.models": "models.md",
    "limbeck.tasks": "tasks.md",
    "limbeck.training": "trainer.md",
    "limbeck.check": "check.md",
    "limbeck.inference": "inference.md",
}
"""The modules whose ``__all__`` is public, each with its page."""


def public_names(module: str) -> list[str]:
    """Return the public names of a module, without those like ``__version__``."""
    return [name for name in importlib.import_module(module).__all__ if not name.startswith("__")]


def home(name: str) -> str:
    """Return the module whose page documents ``name``, which ``limbeck`` exports."""
    thing = getattr(importlib.import_module("limbeck"), name)
    for module in PUBLIC:
        if module != "limbeck" and getattr(importlib.import_module(module), name, None) is thing:
            return module
    return "limbeck"


def names(module: str) -> list[str]:
    """Return the lines that make mkdocstrings document a module's public names, each once and by its shortest path."""
    short = public_names("limbeck")
    if module == "limbeck":
        return [f"::: limbeck.{name}\n" for name in short if home(name) == "limbeck"]
    earlier = list(PUBLIC)[1 : list(PUBLIC).index(module)]
    lines = []
    for name in public_names(module):
        if any(_same(name, module, other) for other in earlier):
            continue  # another module's page documents it
        lines.append(f"::: {'limbeck' if name in short and home(name) == module else module}.{name}\n")
    return lines


def _same(name: str, module: str, other: str) -> bool:
    one, two = (getattr(importlib.import_module(path), name, None) for path in (module, other))
    return name in public_names(other) and one is two


def overview() -> list[str]:
    """Return the table of the names that ``limbeck`` itself exports."""
    lines = ["| name | | page |", "|---|---|---|"]
    for name in sorted(public_names("limbeck"), key=str.lower):
        thing = getattr(importlib.import_module("limbeck"), name)
        page = PUBLIC[home(name)]
        where = "this page" if page == "index.md" else f"[{page.removesuffix('.md')}]({page})"
        lines.append(f"| `{name}` | {_cell(first_sentence(inspect.getdoc(thing) or ''))} | {where} |")
    return lines


def registry(module: str, name: str) -> list[str]:
    """Return the table of a registry of classes: each one's name, settings and first sentence."""
    lines = ["| name | settings and their defaults | what it is |", "|---|---|---|"]
    for key, cls in getattr(importlib.import_module(module), name).items():
        settings = ", ".join(_setting(parameter) for parameter in inspect.signature(cls).parameters.values())
        lines.append(f"| `{key}` | {settings} | {_cell(first_sentence(inspect.getdoc(cls) or ''))} |")
    return lines


def _setting(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return f"`{parameter.name}` (required)"
    return f"`{parameter.name}: {_yaml(parameter.default)}`"


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring, without its full stop."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?:\s|$)", paragraph)[0].rstrip(".:").replace("``", "`")


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a config."""

    path: str
    cls: type
    meaning: str


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a config."""

    path: str
    type: str
    default: str
    meaning: str


def config() -> list[str]:
    """Return a table for each section of a config."""
    from limbeck.config import Config

    lines: list[str] = []
    for section in sections(Config):
        lines += ["", f"## `{section.path}`" if section.path else "## At the top", "", section.meaning, ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for key in keys(section):
            cells = (f"`{key.path}`", _cell(key.type), _cell(key.default), _cell(key.meaning))
            lines.append(f"| {' | '.join(cells)} |")
    return lines[1:]


def sections(cls: type, path: str = "", more: str = "") -> Iterator[Section]:
    """Yield a section and each section inside it, outermost first; ``more`` is the docstring of the section's own key."""
    text = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split()).replace("``", "`")
    yield Section(path, cls, text or more)
    hints, meanings = typing.get_type_hints(cls, include_extras=True), docstrings(cls)
    for name in _field_names(cls):
        if (inner := section_of(hints[name])) is not None:
            yield from sections(inner, f"{path}.{name}" if path else name, meanings.get(name, ""))


def keys(section: Section) -> list[Key]:
    """Return the keys of a section in their order, without the sections inside it."""
    hints, meanings = typing.get_type_hints(section.cls, include_extras=True), docstrings(section.cls)
    prefix = f"{section.path}." if section.path else ""
    return [
        Key(prefix + name, type_text(hints[name]), default_text(section.cls, name), meanings.get(name, ""))
        for name in _field_names(section.cls)
        if section_of(hints[name]) is None
    ]


def section_of(annotation: Any) -> type | None:
    """Return the class of the section that an annotation names, or None if it names a plain value."""
    if typing.get_origin(annotation) is typing.Annotated:
        return section_of(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = [inner for inner in map(section_of, typing.get_args(annotation)) if inner is not None]
        return found[0] if found else None
    is_section = isinstance(annotation, type) and (
        hasattr(annotation, "model_fields") or dataclasses.is_dataclass(annotation)
    )
    return annotation if is_section else None


def docstrings(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class, inherited fields included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if "__annotations__" not in vars(base) or base.__module__.startswith("pydantic"):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[field.target.id] = " ".join(str(text.value.value).split()).replace("``", "`")
    return found


NAMES = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "`true` or `false`",
    type(None): "`null`",
    Any: "see its meaning",
}
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def type_text(annotation: Any) -> str:
    """Return an annotation in words, such as "number above 0, or `null`"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        bounds, text = list(_bounds(arguments[1:])), type_text(arguments[0])
        return f"{text} {' and '.join(bounds)}" if bounds else text
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(type_text(argument) for argument in arguments)
    if origin is typing.Literal:
        return ", ".join(f"`{_yaml(value)}`" for value in arguments)
    if origin is not None and issubclass(origin, typing.Mapping):
        return "mapping"
    if origin is not None and issubclass(origin, typing.Sequence | tuple | list):
        return f"list of: {type_text(arguments[0])}"
    if annotation in NAMES:
        return NAMES[annotation]
    return "mapping" if annotation is dict else getattr(annotation, "__name__", str(annotation))


def default_text(cls: Any, name: str) -> str:
    """Return a key's default as YAML, or "required" if it has none."""
    if hasattr(cls, "model_fields"):
        field = cls.model_fields[name]
        return "required" if field.is_required() else f"`{_yaml(field.get_default(call_default_factory=True))}`"
    field = cls.__dataclass_fields__[name]
    if field.default is not dataclasses.MISSING:
        return f"`{_yaml(field.default)}`"
    return "required" if field.default_factory is dataclasses.MISSING else f"`{_yaml(field.default_factory())}`"


def _field_names(cls: Any) -> list[str]:
    if hasattr(cls, "model_fields"):
        return list(cls.model_fields)
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _bounds(metadata: Any) -> Iterator[str]:
    for item in metadata:
        if hasattr(item, "metadata"):  # pydantic's Field(gt=0)
            yield from _bounds(item.metadata)
        if getattr(item, "min_length", None) is not None:
            yield f"({item.min_length} of them or more)"
        for bound, text in BOUNDS.items():
            if getattr(item, bound, None) is not None:
                yield f"{text} {getattr(item, bound)}"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or '""'


def commands() -> list[str]:
    """Return a section for each command."""
    import typer

    from limbeck.commands.cli import app

    lines: list[str] = []
    for path, command in leaves("limbeck", typer.main.get_command(app)):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        usage = " ".join([path, *(_metavar(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
        lines += ["", f"## `{path}`", "", " ".join((command.help or "").split()), "", "```text", usage, "```"]
        if arguments or options:
            lines += ["", "| | | |", "|---|---|---|"]
        for p in arguments:
            lines.append(f"| `{_metavar(p)}` | {'required' if p.required else 'may be left out'} | {_cell(p.help)} |")
        for p in options:
            default = f" Default: `{p.default}`." if isinstance(p.default, int | float | str) and p.default else ""
            more = "may be given several times" if getattr(p, "multiple", False) else ""
            kind = "flag" if getattr(p, "is_flag", False) else more or "takes a value"
            needed = ", required" if p.required else ""
            lines.append(f"| `{', '.join(p.opts)}` | {kind}{needed} | {_cell(p.help)}{default} |")
    return lines[1:]


def leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the full name and the object of each command in a group, and of the group itself if it has options."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    if command.params:
        yield path, command
    for name, inner in command.commands.items():
        yield from leaves(f"{path} {name}", inner)


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


WRITERS: dict[str, Callable[..., list[str]]] = {
    "names": names,
    "overview": overview,
    "registry": registry,
    "config": config,
    "commands": commands,
}


def filled(text: str) -> str:
    """Return a page with its generated parts up to date."""

    def fill(match: re.Match[str]) -> str:
        what, *arguments = match[2].split()
        written = "\n".join(WRITERS[what](*arguments)).strip()
        return f"{match[1]}\n\n{written}\n\n<!-- end -->" if written else f"{match[1]}\n<!-- end -->"

    return re.sub(r"(<!-- generated: ([\w. ]+) -->)\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def pages() -> list[Path]:
    """Return the pages that have generated parts."""
    return [page for page in sorted(FOLDER.glob("*.md")) if "<!-- generated:" in page.read_text(encoding="utf-8")]


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(page.relative_to(FOLDER.parents[1]))
