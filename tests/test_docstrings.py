"""The docstrings of public functions: each describes every argument, and says what the function raises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import limbeck

SOURCE = Path(limbeck.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
OVERRIDDEN = {"forward", "backward", "extra_repr"}
"""Methods of torch and Transformers, whose arguments are described where they come from."""


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef, list[ast.expr]]]:
    """Yield every function and method of a file whose name, and whose class's name, has no leading underscore."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, []
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, node.bases


def arguments_of(function: ast.FunctionDef) -> list[str]:
    """Return the names of a function's arguments, without ``self``, ``cls`` and private ones."""
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def walk_own_lines(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of the functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def is_overload_or_command(function: ast.FunctionDef) -> bool:
    """Return True for commands (Typer shows their options), overloads, Triton kernels and torch's fake operators."""
    decorators = " ".join(ast.unparse(decorator) for decorator in function.decorator_list)
    return any(word in decorators for word in ("command", "callback", "triton.jit", "overload", "register_fake"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_functions_describe_their_arguments(path):
    missing = []
    for name, function, bases in public_functions(path):
        if is_overload_or_command(function) or (bases and function.name in OVERRIDDEN):
            continue
        text = ast.get_docstring(function)
        if text is None:
            if not bases:  # a method of a subclass may have its docstring from the base
                missing.append(f"{name}: no docstring")
            continue
        arguments = arguments_of(function)
        if "kernels" in path.parts and "Args:" not in text and ("see ``" in text or len(arguments) < 3):
            continue  # a private room; the row kernels' arguments stand at the type that each of them names
        if arguments and "Args:" not in text and not bases:
            missing.append(f"{name}: no Args for {', '.join(arguments)}")
        if "Args:" in text:
            missing += [f"{name}: {argument} is not described" for argument in arguments if f"{argument}:" not in text]
        raised = {
            ast.unparse(node.exc.func)
            for node in walk_own_lines(function)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        }
        if raised - {"NotImplementedError", "AssertionError"} and "Raises:" not in text:
            missing.append(f"{name}: raises {', '.join(sorted(raised))} without saying so")
    assert missing == []
