"""``limbeck distill``: train the student that a config describes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.commands.findings import headline_of_run, labels_told, teacher_findings
from limbeck.commands.opening import open_and_tell
from limbeck.commands.page_parts import class_parts, explorer_part, facts_part, marks_of, speed_part
from limbeck.config import Config
from limbeck.evaluation import Answers, Estimate, ask_models, evaluate_models, main_metric, test_metrics
from limbeck.models import Retokenised
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
from limbeck.run.opening import OpenedRun, inspect_run
from limbeck.run.plan import Plan, plan_of
from limbeck.run.training import build_seeded_model, train, with_temperature

NOT_COMPARED = (
    "The teacher has another tokenizer (alignment: uld): its perplexity is over other tokens, and the metrics that compare "
    "both models token by token are left out."
)


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
        plan.facts["objective"] = f"the temperature is searched first ({config.search.cost} trainings)"
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
    folder, begun = Path(config.out), time.perf_counter()
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
        is_other = isinstance(teacher, Retokenised)  # its tokens are not those of the labels
        live = {"teacher": teacher} if isinstance(teacher, nn.Module) and not is_other else {}
        models = {**live, "student": student}
        answers = ask_models(models, splits)
        results = evaluate_models(models, splits, answers)
        metric = main_metric(splits)
        findings = [
            f"{len(splits.test):,} test examples; 1 seed; {labels_told(splits)}.",
            *teacher_findings(results.get("teacher", {}), results["student"].get(metric, 0.0), metric),
            *([NOT_COMPARED] if is_other else []),
        ]
        log = trainer.state.log_history
        write_json(
            folder / METRICS, {"results": results, "findings": findings, "seconds": round(seconds, 2), "log": log}
        )
        _write_page(config, opened, models, answers, results, findings, log, time.perf_counter() - begun)
    trainer.accelerator.wait_for_everyone()
    return folder


def _write_page(
    config: Config,
    opened: OpenedRun,
    models: Mapping[str, nn.Module],
    answers: Mapping[str, Tensor | Answers],
    results: Mapping[str, Mapping[str, float]],
    findings: Sequence[str],
    log: Sequence[Mapping[str, float]],
    seconds: float,
) -> None:
    """Write the page of a finished run."""
    folder, splits, teacher = Path(config.out), opened.splits, models.get("teacher")
    marks, note = marks_of(config, folder)
    metric = main_metric(splits)
    measured = {
        name: test_metrics(found, splits, answers.get("teacher") if name == "student" else None).by_example
        for name, found in answers.items()
    }
    right = {name: values[metric][None] for name, values in measured.items() if metric in values}
    errors = {
        name: {metric: Estimate.of(row.tolist()).error for metric, row in values.items()}
        for name, values in measured.items()
    }
    details = report.Details(
        headline=headline_of_run(results, metric),
        losses=report.loss_figure(log),
        speed=speed_part(models, splits),
        explorer=explorer_part(config, splits, teacher, answers, marks, note),
        facts=facts_part(opened.facts, [config.seed], seconds),
        **class_parts(splits, answers, right, ("student", "teacher") if len(right) == 2 else None),
    )
    soft_targets = None
    if teacher is not None:
        soft_targets = report.uncertain_images_figure(splits, teacher, [1.0, *(mark.temperature for mark in marks)])
    report.write_run_page(
        folder / REPORT, splits=splits, results=results, findings=findings, details=details, errors=errors,
        soft_targets=soft_targets,
    )  # fmt: skip


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read what a run has measured.

    Args:
        folder: the folder of a finished run.

    Returns:
        The results, the findings and the log.
    """
    return json.loads((folder / METRICS).read_text(encoding="utf-8"))
