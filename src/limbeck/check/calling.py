"""From anybody's loss to a function of (student, teacher, labels, temperature)."""

from __future__ import annotations

import importlib
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ArgumentTypeError

_REMEDY = "Say how it is called: call=lambda student, teacher, labels, T: ... in Python, --call on the command line."
_NAMES = {
    "student": r"student.*|.*_student|s|[zyp]_?s|s_?logits?|logits?_s|out(put)?_s",
    "teacher": r"teacher.*|.*_teacher|t|[zyp]_?t|t_?logits?|logits?_t|out(put)?_t",
    "labels": r"(hard_|true_|class_)?(labels?|targets?)|y|y_true|gt|ground_truth",
    "temperature": r"(kd_|distill(ation)?_)?(temperature|temp|tau|T)",
}
_MIXTURE = r"alpha|beta|lam|lambda_?|lambd|(kd_|soft_|hard_)?(ratio|weight)"
"""Required arguments that weigh the terms. They get 0.5, at which it does not matter what they weigh."""


@dataclass(frozen=True)
class Loss:
    """A loss as a black box.

    Args:
        name: what reports call it.
        function: (student, teacher, labels, T) -> what the loss returns.
        takes_labels: False if the labels are not handed on.
        takes_temperature: False if T is not handed on.
        temperature: T where it is not handed on.
        is_adapted: True if the user wrote how it is called. Such a call may need memory for classes x classes.
    """

    name: str
    function: Callable[[Tensor, Tensor, Tensor, float], Any]
    takes_labels: bool = True
    takes_temperature: bool = True
    temperature: float = 1.0
    is_adapted: bool = False

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
        return _total(self.function(student, teacher, labels, temperature)).sum()


def as_loss(loss: object, call: Callable[..., Any] | None = None) -> Loss:
    """Return a loss as a function of (student, teacher, labels, T).

    Args:
        loss: a function, a module, or a class of modules that takes T at construction.
        call: (student, teacher, labels, T) -> the loss; None finds the arguments by their names.

    Returns:
        The black box.

    Raises:
        ArgumentTypeError: the loss cannot be called.
        ArgumentError: an argument of the loss has a name whose meaning is not known.
    """
    name = getattr(loss, "__qualname__", type(loss).__name__)
    if call is not None:
        return Loss(name, call, is_adapted=True)
    if not callable(loss):
        raise ArgumentTypeError(
            "loss", f"expected a function, a module or a class, got {type(loss).__name__}. {_REMEDY}"
        )
    if inspect.isclass(loss):
        return _of_class(loss, name)
    roles = _roles(loss.forward if isinstance(loss, nn.Module) else loss, name)
    settings = vars(loss).items() if isinstance(loss, nn.Module) else ()
    fixed = [v for n, v in settings if re.fullmatch(_NAMES["temperature"] + "|t", n) and isinstance(v, int | float)]
    return Loss(
        name,
        lambda *values: loss(**_arguments(roles, values)),
        "labels" in roles,
        "temperature" in roles,
        float(fixed[0]) if fixed and "temperature" not in roles else 1.0,
    )


def _of_class(cls: type, name: str) -> Loss:
    """Return a class of modules as a loss: a module is made for each T."""
    method = getattr(cls, "forward", None) or vars(cls).get("__call__")
    if method is None:
        raise ArgumentTypeError("loss", f"{name}: expected a class with a forward method. {_REMEDY}")
    settings, roles = _roles(cls, name, of_data=False), _roles(method, name, is_method=True)
    modules: dict[float, Any] = {}

    def function(*values: Any) -> Any:
        module = modules.get(values[3])
        if module is None:
            module = modules[values[3]] = cls(**_arguments(settings, values))
        return module(**_arguments(roles, values))

    return Loss(name, function, "labels" in roles, "temperature" in settings or "temperature" in roles)


def _roles(function: Any, name: str, *, of_data: bool = True, is_method: bool = False) -> dict[str, str]:
    """Return the argument's name for each role, and the required weights, which are their own roles."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[is_method:]
    except (TypeError, ValueError):
        raise ArgumentError("loss", f"{name} does not show its arguments. {_REMEDY}") from None
    roles: dict[str, str] = {}
    for role in ("student", "teacher", "temperature", "labels") if of_data else ("temperature",):
        pattern = _NAMES[role] if role != "temperature" or roles.get("teacher") == "t" else _NAMES[role] + "|t"
        named = [p for p in parameters if p.name not in roles.values() and re.fullmatch(pattern, p.name)]
        named.sort(key=lambda p: p.default is not p.empty)  # the required ones come first
        if named:
            roles[role] = named[0].name
    unknown = []
    for p in parameters:
        if p.name in roles.values() or p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if re.fullmatch(_MIXTURE, p.name):
            roles[p.name] = p.name
        else:
            unknown.append(p.name)
    missing = [role for role in ("student", "teacher") if of_data and role not in roles]
    names = ", ".join(p.name for p in parameters)
    if missing:
        raise ArgumentError(
            "loss", f"{name}: cannot tell which of ({names}) is the {missing[0]}, by its name. {_REMEDY}"
        )
    if unknown:
        raise ArgumentError("loss", f"{name}: cannot tell the meaning of {', '.join(unknown)}, by its name. {_REMEDY}")
    return roles


def _arguments(roles: Mapping[str, str], values: tuple[Any, ...]) -> dict[str, Any]:
    given: dict[str, Any] = dict(zip(("student", "teacher", "labels", "temperature"), values, strict=True))
    return {name: given.get(role, 0.5) for role, name in roles.items()}


def _total(returned: Any) -> Tensor:
    """Return the loss in what a loss returned: a tensor, or the first of several, or the one that is named a loss."""
    if isinstance(returned, Mapping):
        returned = [returned[key] for key in ("loss", "total", "total_loss") if key in returned]
    elif not isinstance(returned, Tensor):
        returned = [getattr(returned, key) for key in ("total", "loss") if hasattr(returned, key)] or returned
    if isinstance(returned, list | tuple) and returned:
        returned = returned[0]
    if not isinstance(returned, Tensor):
        raise ArgumentTypeError("loss", f"expected it to return a tensor, got {type(returned).__name__}.")
    return returned


def import_loss(name: str) -> Any:
    """Import a loss by its name. To import a module is to run it.

    Args:
        name: ``package.module:loss``; the loss may be an attribute of a class, as in ``module:Trainer.loss``.

    Returns:
        What has the name.

    Raises:
        ArgumentError: there is no such module or attribute.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ArgumentError("loss", f"{name!r} does not name both. Expected package.module:loss, importable from here.")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:  # a module runs when it is imported
        known = isinstance(error, ImportError | AttributeError)
        reason = str(error) if known else f"importing it fails: {type(error).__name__}: {error}".splitlines()[0]
        raise ArgumentError(
            "loss", f"{name!r}: {reason}. Expected package.module:loss, importable from here."
        ) from None


def call_from_text(text: str, loss: object) -> Callable[..., Any]:
    """Return the function of (student, teacher, labels, T) that an expression of Python describes.

    Args:
        text: the expression, in which ``loss`` is the loss: ``loss(student, teacher, labels, alpha=0.5, temperature=T)``.
        loss: what ``loss`` stands for.

    Returns:
        The function.

    Raises:
        ArgumentError: the text is no expression.
    """
    try:
        code = compile(text, "--call", "eval")
    except SyntaxError as error:
        raise ArgumentError(
            "--call", f"expected an expression such as loss(student, teacher, T=T), got {text!r}: {error.msg}."
        ) from None
    scope = {"loss": loss, "torch": torch, "F": nn.functional}
    return lambda student, teacher, labels, T: eval(  # noqa: N803
        code, {**scope, "student": student, "teacher": teacher, "labels": labels, "T": T}
    )
