"""The tasks by name, and the task of a model: seen by its base model, its classes, its config and its first labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses import IGNORE_INDEX
from limbeck.models import EstimatorModel, is_sentence_model
from limbeck.models.forward import NOT_MODEL_INPUTS, underlying
from limbeck.tasks.base import Targets, Task
from limbeck.tasks.causal_lm import CausalLM
from limbeck.tasks.classification import Classification
from limbeck.tasks.dense_prediction import DensePrediction
from limbeck.tasks.encoder_decoder import EncoderDecoder
from limbeck.tasks.multi_label import MultiLabel
from limbeck.tasks.numbers import Embeddings, Regression
from limbeck.tasks.tokens import MaskedLM, TokenClassification

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Classification,
        MultiLabel,
        Regression,
        Embeddings,
        DensePrediction,
        TokenClassification,
        MaskedLM,
        EncoderDecoder,
        CausalLM,
    )
}
"""The tasks by their names. A new one is added here."""

UNKNOWN, HOLDS_CAUSAL_LM = "unknown", "holds_causal_lm"
"""What is said of a module of an own kind, and of such a module around a causal language model of Transformers."""

_HEADS = re.compile(r"For[A-Z]\w+$|LMHead(Model)?$")
REMEDY = "Name the task yourself: task='classification' (a label for each row of logits), task='causal_lm', or a Task."


def recognise(model: nn.Module) -> str:
    """Return the name of a model's task, through adapters, wrappers and subclasses.

    Args:
        model: the student.

    Returns:
        A key of ``TASKS``. For a module that is not from Transformers, "unknown" or "holds_causal_lm".

    Raises:
        ArgumentError: the model is from Transformers and of a kind for which there is no task.
    """
    from transformers import PreTrainedModel

    model = underlying(model)
    if isinstance(model, EstimatorModel):
        return Regression.name if model.is_regressor else Classification.name
    if is_sentence_model(model):
        return Embeddings.name
    if not isinstance(model, PreTrainedModel):
        inner = (part for part in model.modules() if isinstance(part, PreTrainedModel))
        held = [_task_of_class(type(part), part.config) for part in inner]
        return HOLDS_CAUSAL_LM if CausalLM.name in held else UNKNOWN
    kind = _task_of_class(type(model), model.config)
    if kind is None:
        raise ArgumentError("task", f"{type(model).__name__} is of no kind that a task is known for. {REMEDY}")
    return _task_of_problem(model) if kind == Classification.name else kind


def _task_of_problem(model: Any) -> str:
    """Return the task that the ``problem_type`` of a classifier stands for."""
    problem = getattr(model.config, "problem_type", None)
    if problem is None and getattr(model.config, "num_labels", None) == 1:
        return Regression.name  # as Transformers itself takes one output
    if problem in (None, "single_label_classification"):
        return Classification.name
    for task in TASKS.values():
        if task.problem_type == problem:
            return task.name
    known = ["single_label_classification", *(task.problem_type for task in TASKS.values() if task.problem_type)]
    raise ArgumentError(
        "task",
        f"{type(model).__name__} is configured for {problem}, for which there is no task. Set config.problem_type to one "
        f"of {', '.join(known)}, or pass a task= of your own.",
    )


def _task_of_class(cls: type[nn.Module], config: Any) -> str | None:
    """Return the task of a class of Transformers or of one that extends it; None if no task is known for it."""
    from transformers import PreTrainedModel

    in_two_parts = any(getattr(c, "is_encoder_decoder", False) for c in (config, getattr(config, "text_config", None)))
    for base in (base for base in cls.__mro__ if issubclass(base, PreTrainedModel)):
        name, is_theirs = base.__name__, base.__module__.startswith("transformers.")
        for task in TASKS.values():
            if task.recognises(name, has_encoder_and_decoder=in_two_parts):
                return task.name
        if is_theirs and (base is cls or _HEADS.search(name)):
            return None
    # Remote code says in its config what it is.
    return CausalLM.name if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}) else UNKNOWN


def resolve_task(task: Any, student: nn.Module) -> Task:
    """Return the task that a name stands for.

    Args:
        task: a key of ``TASKS``; "auto", which recognises the student; a ``Task``, which is returned as it is; or another
            object with the methods ``align`` and ``targets``.
        student: the model that is trained.

    Returns:
        The task.

    Raises:
        ArgumentError: the name is not known, or no task is known for the student.
        ArgumentTypeError: ``task`` is of no kind named above.
    """
    if isinstance(task, Task):
        return task
    if not isinstance(task, str):
        return _Given(task)
    return _recognised_task(student) if task == "auto" else task_named(task)


def task_of_data(name: str, model: nn.Module) -> Task:
    """Return the task that labels are for, after checking that a model was made for it.

    Args:
        name: what the labels are for, a key of ``TASKS``.
        model: the model that learns them.

    Returns:
        The task.

    Raises:
        ArgumentError: the model is of Transformers and made for another task.
    """
    kind = recognise(model)
    if kind in TASKS and kind != name:
        raise ArgumentError(
            "task",
            f"the labels of the data are for {name}, and {type(underlying(model)).__name__} is made for {kind}. Use a model "
            "for the data's task, or set problem_type in the model's settings.",
        )
    return task_named(name)


def task_named(name: str) -> Task:
    """Return a new task.

    Args:
        name: a key of ``TASKS``.

    Raises:
        ArgumentError: there is none of this name.
    """
    if name not in TASKS:
        raise ArgumentError("task", f"expected 'auto', {', '.join(map(repr, TASKS))} or a Task, got {name!r}.")
    return TASKS[name]()


def _recognised_task(student: nn.Module) -> Task:
    kind = recognise(student)
    if kind not in TASKS:
        return _SeenByItsLabels(holds_causal_lm=kind == HOLDS_CAUSAL_LM)
    task = TASKS[kind]()
    if isinstance(
        task, Classification
    ):  # numbers for each class may then be several labels, as Transformers takes them
        task.is_told = getattr(getattr(underlying(student), "config", None), "problem_type", None) is not None
    return task


class _Given(Task):
    """A task around an object that has ``align`` and ``targets`` and does not extend ``Task``."""

    def __init__(self, given: Any) -> None:
        if not (callable(getattr(given, "align", None)) and callable(getattr(given, "targets", None))):
            raise ArgumentTypeError("task", f"expected a name or a limbeck.tasks.Task, got {type(given).__name__}.")
        self.given = given

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits that have a target."""
        return self.given.align(logits)

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count."""
        return self.given.targets(batch)


class _SeenByItsLabels(Classification):
    """A module of an own kind: its first labelled batch decides about its task, or raises an error.

    Labels that are the input tokens themselves have one meaning only: the next tokens of a language model.

    Args:
        holds_causal_lm: whether the module is built around a causal language model of Transformers.
    """

    def __init__(self, *, holds_causal_lm: bool) -> None:
        self._holds_causal_lm, self._is_decided = holds_causal_lm, False
        self._task: Classification | CausalLM = Classification()

    def align(self, logits: Tensor) -> Tensor:
        """Return the logits that have a target."""
        return self._task.align(logits)

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count."""
        return (self._task if self._is_decided else self._decide(batch)).targets(batch)

    def _decide(self, batch: Mapping[str, Any]) -> Classification | CausalLM:
        labels = batch.get("labels")
        tokens = [value for name, value in batch.items() if name not in NOT_MODEL_INPUTS and _is_tokens(value)]
        counted = None if labels is None else labels != IGNORE_INDEX
        if counted is not None and not counted.any():
            return self._task  # this batch tells nothing, the next one may
        per_token = labels is None or labels.dim() > 1
        if labels is not None and labels.is_floating_point():
            raise ArgumentError(
                "task",
                f"the student is a module of your own, and its labels are numbers of shape {tuple(labels.shape)}. Name the "
                "task: task='regression' if they are what the student should return, task='multi_label' if they say for each "
                "class whether it is there, task='classification' if they are the probabilities of classes of which one is "
                "right.",
            )
        if labels is not None and labels.dim() > 2:
            raise ArgumentError(
                "task",
                f"the student is a module of your own, and its labels have the shape {tuple(labels.shape)}. Name the task: "
                "task='dense_prediction' if its logits are (N, C, H, W), task='classification' if the classes are last.",
            )
        repeats = per_token and any(_repeats(labels, ids) for ids in tokens)
        if repeats and self._holds_causal_lm:
            self._task = CausalLM()
        elif repeats or (per_token and tokens and self._holds_causal_lm):
            what = "is built around a causal language model" if self._holds_causal_lm else "is a module of your own"
            labelled = "its labels are its input tokens" if repeats else "its labels do not show what it learns"
            raise ArgumentError(
                "task",
                f"the student {what}, and {labelled}. Name the task: task='causal_lm' if the logits at a token meet the next "
                "token (the labels are then shifted for you), task='classification' if they meet the label at their own place.",
            )
        self._is_decided = True
        return self._task


def _is_tokens(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and not value.is_floating_point()


def _repeats(labels: Tensor | None, tokens: Tensor) -> bool:
    """Return True if every label is the token at its own place."""
    if labels is None or labels.shape != tokens.shape:
        return False
    counted = labels != IGNORE_INDEX
    return bool((labels[counted] == tokens[counted]).all())
