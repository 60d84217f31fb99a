"""What the page of a comparison shows below its results: the student with soft targets that is best on validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from limbeck import report
from limbeck.atomic_files import read_json
from limbeck.commands.arms import ALONE
from limbeck.commands.findings import headline_of_comparison
from limbeck.commands.page_parts import class_parts, explorer_part, facts_part, speed_part
from limbeck.evaluation import ArmResult, answers_of, main_metric, test_metrics
from limbeck.models import functions_of, load_model
from limbeck.run.plan import describe_objective
from limbeck.tasks import has_numbers

if TYPE_CHECKING:
    from limbeck.commands.compare import ArmTrainer


def comparison_details(
    trainer: ArmTrainer, arms: Mapping[str, ArmResult], teacher: nn.Module, facts: Mapping[str, str], seconds: float
) -> report.Details:
    """Return the parts of a comparison's page below its results.

    Args:
        trainer: trained the arms.
        arms: the result of each arm, by its name.
        teacher: the teacher.
        facts: what the run's plan told, by name.
        seconds: how long the comparison took.
    """
    config, splits, metric = trainer.config, trainer.splits, main_metric(trainer.splits)
    chosen = max(
        (arm for arm in trainer.arms if arm.has_teacher), key=lambda arm: arms[arm.name][trainer.validation_score].mean
    )
    student = load_model(trainer.first_student(chosen.name), model=functions_of(config.student))
    answers = {"student": answers_of(student, splits.test), "teacher": trainer.teacher_test_answers}
    theirs = test_metrics(trainer.teacher_test_answers, splits, None).by_example
    right = {"teacher": theirs[metric][None]} if metric in theirs else {}
    if right and ALONE.name in arms:
        right |= {ALONE.name: arms[ALONE.name].by_example[metric], "student": arms[chosen.name].by_example[metric]}
    temperatures = None if has_numbers(trainer.task) else config.compare.temperatures
    facts = {**facts, "objective": describe_objective(config.distillation, trainer.task, temperatures)}
    marks = [
        report.Mark(t, "the student shown" if t == chosen.temperature else "compared")
        for t in sorted(temperatures or [], key=lambda t: t != chosen.temperature)
    ]
    log = trainer.log_of(chosen.name)
    return report.Details(
        headline=headline_of_comparison(arms, theirs, chosen.name, metric),
        student=f"{chosen.name} (with soft targets the best on validation); of one student, that of seed {config.seed}",
        losses=report.loss_figure(read_json(log) if log.is_file() else []),
        speed=speed_part({"teacher": teacher, "student": student}, splits),
        explorer=explorer_part(config, splits, teacher, answers, marks),
        facts=facts_part(facts, [config.seed + i for i in range(config.compare.seeds)], seconds),
        **class_parts(splits, answers, right, ("student", ALONE.name) if "student" in right else None),
    )
