"""What Transformers would refuse only when the training begins, or would ignore: found by building it for one small layer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
from transformers import SchedulerType, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import integration_utils
from transformers.training_args import OptimizerNames
from transformers.utils.import_utils import is_liger_kernel_available

from limbeck.distributed import process_state
from limbeck.errors import expected_name
from limbeck.tasks import TASKS, task_named

_NOT_LISTED_AS_AVAILABLE = ("azure_ml", "flyte")
"""Trackers of which Transformers does not tell whether their package is there."""


class _ArgumentsWithoutDevice(TrainingArguments):
    """Arguments that start no process group and take no device when they are made."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def argument_faults(settings: Mapping[str, Any], refused: Collection[str] = ()) -> dict[str, str]:
    """Return what is wrong with training arguments of the right types, by the name of the argument.

    Args:
        settings: arguments of ``transformers.TrainingArguments``.
        refused: the names of those that are known to be wrong. They are left out, and nothing is said about them.

    Returns:
        One message for each argument at fault; "" for what cannot be told to come from one argument. It is empty if
        all is well.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself warns
        args, faults = _build(settings, refused)
        if args is not None:
            faults |= _optimizer_faults(args) | _scheduler_faults(args) | _faults_of_this_machine(args)
            faults |= _tracker_faults(args.report_to)
            metric = args.metric_for_best_model
            if metric is not None and metric.removeprefix("eval_") not in (known := _evaluated()):
                faults["metric_for_best_model"] = expected_name(metric, known)
    return faults


def _build(settings: Mapping[str, Any], refused: Collection[str]) -> tuple[TrainingArguments | None, dict[str, str]]:
    """Return the arguments without those at fault, and the faults. Transformers tells one at a time."""
    faults: dict[str, str] = {}
    accepted = {name: value for name, value in settings.items() if name not in refused}
    while True:
        try:
            return _ArgumentsWithoutDevice(output_dir="unused", **copy.deepcopy(accepted)), faults
        except Exception as error:  # errors of every type come from here
            said = _letters(str(error))
            named = [name for name in sorted(settings, key=len, reverse=True) if _letters(name) in said]
            culprit = next((name for name in named if name in accepted), None)
            if culprit is None:
                return None, faults if named else faults | {"": _in_one_line(error)}
            if not any(name in refused for name in named):
                faults[culprit] = _in_one_line(error)
            del accepted[culprit]


def _optimizer_faults(args: TrainingArguments) -> dict[str, str]:
    """Return why the optimiser cannot be made, or which of its arguments it does not read."""
    parts = [part for part in (args.optim_args or "").replace(" ", "").split(",") if part]
    if any(part.count("=") != 1 for part in parts):
        return {"optim_args": f'expected names and values as in "momentum=0.9,nesterov=true", got {args.optim_args!r}.'}
    layer = torch.nn.Linear(1, 1)
    try:
        optimizer, settings = _optimizer_of(args, args.optim_args, layer)
        if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer) and "params" not in settings:
            optimizer(layer.parameters(), **settings)
    except ImportError as error:
        return {"optim": _in_one_line(error)}
    except Exception as error:
        return {"optim_args" if parts else "optim": _in_one_line(error)}
    for part in parts:
        others = ",".join(other for other in parts if other is not part)
        if str(_optimizer_of(args, others, layer)[1]) == str(settings):
            return {"optim_args": f"{part} changes nothing in {OptimizerNames(args.optim).value}. Leave it out."}
    return {}


def _optimizer_of(
    args: TrainingArguments, optim_args: str | None, layer: torch.nn.Module
) -> tuple[Any, dict[str, Any]]:
    changed = copy.copy(args)
    changed.optim_args = optim_args
    return Trainer.get_optimizer_cls_and_kwargs(changed, layer)  # pyright: ignore[reportArgumentType]


def _scheduler_faults(args: TrainingArguments) -> dict[str, str]:
    """Return why the schedule of the learning rate cannot be made, or that it reads no settings."""
    settings: Any = args.lr_scheduler_kwargs or {}
    optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=args.learning_rate)

    def make(settings: dict[str, Any]) -> None:
        get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(10), 10, settings)

    try:
        make(settings)
    except Exception as error:
        return {"lr_scheduler_kwargs" if settings else "lr_scheduler_type": _in_one_line(error)}
    if settings:
        try:
            make({**settings, "a_setting_that_no_schedule_has": 0})
        except TypeError:
            return {}
        return {"lr_scheduler_kwargs": f"has no effect on {SchedulerType(args.lr_scheduler_type).value}. Leave it out."}
    return {}


def _faults_of_this_machine(args: TrainingArguments) -> dict[str, str]:
    """Return which arguments need hardware, processes or packages that are not there."""
    faults = {}
    if args.fp16 and (args.use_cpu or not torch.accelerator.is_available()):
        faults["fp16"] = "needs a GPU. Leave it out, or take bf16 with use_cpu."
    if args.fsdp and process_state().num_processes == 1:
        faults["fsdp"] = "needs several processes. Start them with accelerate launch, or leave it out."
    if args.use_liger_kernel and not is_liger_kernel_available():
        faults["use_liger_kernel"] = "needs the package liger-kernel. Install it, or leave this out."
    return faults


def _tracker_faults(report_to: Any) -> dict[str, str]:
    """Return which tracker is not known, or lacks its package."""
    known = integration_utils.INTEGRATION_TO_CALLBACK
    there = (*integration_utils.get_available_reporting_integrations(), *_NOT_LISTED_AS_AVAILABLE)
    for name in report_to:
        if name not in known:
            return {"report_to": expected_name(name, ["none", "all", *known])}
        if name not in there:
            return {"report_to": f"{name} needs a package that is not installed. Install it, or leave it out."}
    return {}


def _evaluated() -> list[str]:
    """Return the names of all metrics that an evaluation gives in one task or another."""
    logits, names = torch.zeros(1, 2), {}
    for task in map(task_named, TASKS):
        labels = task.decide(logits)
        names |= task.scores(logits, labels) | task.metrics_of_counts(task.counts(logits, labels).sum(0))
    return list(names)


def _letters(text: str) -> str:
    """Return a text's letters and digits alone: messages write "eval strategy", "--eval_strategy" and "EvalStrategy"."""
    return "".join(filter(str.isalnum, text.lower()))


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()).removeprefix("--")
