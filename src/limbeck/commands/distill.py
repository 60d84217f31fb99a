"""``limbeck distill``: train the student that a config describes."""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.commands.findings import teacher_findings
from limbeck.config import Config
from limbeck.evaluation import evaluate_models, main_metric
from limbeck.run.folder import CHECKPOINTS, METRICS, REPORT, check_folder, is_finished, save_student
from limbeck.run.opening import open_run
from limbeck.run.teacher import load_or_train_teacher
from limbeck.run.training import build_seeded_model, train


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
    opened = open_run(config, folder, resume=resume)
    splits = opened.splits
    teacher = opened.teacher or load_or_train_teacher(config, splits, folder, resume=resume)
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
        findings = [
            f"{len(splits.test):,} test examples; 1 seed; {int(splits.labelled.sum()):,} labels for training.",
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
            distillation=config.distillation.model_dump(),
            log=log,
            teacher=live.get("teacher"),
        )
    trainer.accelerator.wait_for_everyone()
    return folder
