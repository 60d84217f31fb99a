"""``limbeck distill``: train the student that a config describes."""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.config import Config
from limbeck.evaluation import evaluate_models
from limbeck.run.folder import CHECKPOINTS, METRICS, REPORT, save_student
from limbeck.run.opening import open_run
from limbeck.run.teacher import obtain_teacher
from limbeck.run.training import build_student, train


def distill(config: Config, *, resume: bool = False) -> Path:
    """Train the student that a config describes, and leave a run folder.

    Args:
        config: the run.
        resume: go on with an interrupted run of the same config.

    Raises:
        ConfigError: the folder holds a run already, or one of another config.
    """
    folder = Path(config.out)
    splits, teacher = open_run(config, folder, resume=resume)
    teacher = teacher or obtain_teacher(config, splits, folder)
    student = build_student(config.student, splits, config.seed)
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
        asked = {"teacher": teacher} if isinstance(teacher, nn.Module) else {}
        results = evaluate_models({**asked, "student": student}, splits)
        history = trainer.state.log_history
        write_json(folder / METRICS, {"results": results, "seconds": round(seconds, 2), "log": history})
        report.write_run_page(folder / REPORT, config.model_dump(), splits, results, history, asked.get("teacher"))
    trainer.accelerator.wait_for_everyone()
    return folder
