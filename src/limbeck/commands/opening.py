"""What every command does first: look at the run, print what it is going to do, and get its teacher."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from limbeck.commands.printing import print_plan
from limbeck.config import Config
from limbeck.distributed import process_state
from limbeck.run.opening import OpenedRun, inspect_run, open_run
from limbeck.run.plan import Plan, measure_teacher, plan_of, teacher_warnings
from limbeck.run.teacher import load_or_train_teacher
from limbeck.store import StoredTeacher
from limbeck.tasks import task_named


def open_and_tell(
    config: Config,
    folder: Path,
    *,
    begin: bool = False,
    resume: bool = False,
    live_teacher: bool = False,
    builds_store: bool = False,
    needs_softmax: str | None = None,
    needs_temperature: bool = False,
) -> tuple[OpenedRun, nn.Module | StoredTeacher]:
    """Look at a run, print its plan, and train the teacher if it must be trained first.

    Args:
        config: the run.
        folder: its folder.
        begin: write the config into the folder, which then holds a run.
        resume: continue what was begun in the folder.
        live_teacher: the teacher itself is run, also where the config names a store.
        builds_store: the command keeps what the teacher says.
        needs_softmax: the command that is run, if it knows nothing but one class out of all.
        needs_temperature: the command looks for a temperature.

    Returns:
        The run, and its teacher.

    Raises:
        ConfigError: the config cannot be run; one line for each fault.
    """
    if begin:
        opened = open_run(config, folder, resume=resume, live_teacher=live_teacher)
    else:
        opened = inspect_run(
            config,
            folder,
            live_teacher=live_teacher,
            builds_store=builds_store,
            needs_softmax=needs_softmax,
            needs_temperature=needs_temperature,
        )
    plan = plan_of(config, opened, folder)
    opened.facts.update(plan.facts)
    tell(plan)
    if opened.teacher is not None:
        return opened, opened.teacher
    teacher = load_or_train_teacher(config, opened.splits, folder, resume=resume)
    found = measure_teacher(teacher, opened.splits)
    tell(Plan({}, [] if found is None else teacher_warnings(found, task_named(opened.splits.task).unit)))
    return opened, teacher


def tell(plan: Plan) -> None:
    """Print a plan on the main process.

    Args:
        plan: the facts and the warnings.
    """
    if process_state().is_main_process:
        print_plan(plan)
