"""``limbeck distill``: train the student that a config describes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from torch import nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.commands.findings import labels_told, teacher_findings
from limbeck.commands.opening import open_and_tell
from limbeck.config import Config
from limbeck.evaluation import evaluate_models, main_metric
from limbeck.run.faults import Faults
from limbeck.run.folder import (
    CHECKPOINTS,
    METRICS,
    REPORT,
    check_folder,
    check_writable,
    is_begun,
    is_finished,
    save_student,
)
from limbeck.run.opening import inspect_run
from limbeck.run.plan import Plan, plan_of
from limbeck.run.training import build_seeded_model, train, with_temperature
from limbeck.tasks import has_numbers, task_named


def check(config: Config, *, resume: bool = False) -> Plan:
    """Look at the run that a config describes, and estimate what it takes. Nothing is trained or written.

    Args:
        config: the run.
        resume: the run may continue one that was begun in its folder.

    Returns:
        What the run is going to do.

    Raises:
        ConfigError: the config cannot be run, or resume another run than that in its folder; one line for each fault.
    """
    folder, asked = Path(config.out), config
    if config.distillation.temperature == "auto":
        config = with_temperature(config, config.search.temperatures[0])
    faults = Faults(config)
    with faults.under("out"):
        if resume:
            check_folder(config, folder, resume=True, ignoring=() if asked is config else ("distillation",))
        else:
            check_writable(folder)
    plan = plan_of(config, inspect_run(config, folder, faults=faults), folder, measure=True)
    if not resume and is_begun(folder):
        plan.warnings.append(
            f"{folder} holds a run already. Name another folder (out), or go on with that run: --resume"
        )
    if asked is not config:
        plan.facts["objective"] = f"the temperature is searched first ({len(config.search.temperatures)} are tried)"
    return plan


def distill(config: Config, *, resume: bool = False) -> Path:
    """Train the student that a config describes, and write its run folder.

    Args:
        config: the run.
        resume: continue an interrupted run of the same config. A finished run is left as it is.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the config cannot be run, or its folder holds a run that this one does not resume.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
        StoreError: the stored teacher cannot be read, or it does not fit the data.
    """
    folder = Path(config.out)
    if resume and is_finished(folder) and check_folder(config, folder, resume=True):
        return folder  # to train on would change what is finished
    opened, teacher = open_and_tell(config, folder, begin=True, resume=resume)
    splits = opened.splits
    student = build_seeded_model(config.student, splits, config.seed)
    started = time.perf_counter()
    trainer = train(
        student,
        teacher if config.distillation.alpha > 0 else None,
        splits.train,
        config,
        folder=folder / CHECKPOINTS,
        validation=splits.validation,
        resume=resume,
        title="Training the student",
    )
    seconds = time.perf_counter() - started
    if trainer.is_world_process_zero():
        save_student(student, folder, config, splits)
        live = {"teacher": teacher} if isinstance(teacher, nn.Module) else {}
        results = evaluate_models({**live, "student": student}, splits)
        metric = main_metric(splits)
        task = task_named(splits.task)
        findings = [
            f"{len(splits.test):,} test examples; 1 seed; {labels_told(splits)}.",
            *teacher_findings(results.get("teacher", {}), results["student"].get(metric, 0.0), metric),
        ]
        log = trainer.state.log_history
        write_json(
            folder / METRICS, {"results": results, "findings": findings, "seconds": round(seconds, 2), "log": log}
        )
        report.write_run_page(
            folder / REPORT,
            splits=splits,
            results=results,
            findings=findings,
            distillation=config.distillation.model_dump(include={"alpha", "distance"} if has_numbers(task) else None),
            log=log,
            teacher=live.get("teacher"),
        )
    trainer.accelerator.wait_for_everyone()
    return folder


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read what a run has measured.

    Args:
        folder: the folder of a finished run.

    Returns:
        The results, the findings and the log.
    """
    return json.loads((folder / METRICS).read_text(encoding="utf-8"))
