"""How good a student is, measured at T = 1: metrics, speed, and comparisons over seeds.

This room is not public: the commands use it. It may import ``tasks``, ``data``, ``models``, ``losses`` and the rooms below
them.
"""

from limbeck.evaluation.answers import Answers
from limbeck.evaluation.arms import ArmResult, Measured, difference, train_arms
from limbeck.evaluation.estimates import Estimate
from limbeck.evaluation.inference import (
    aligned_outputs,
    answers_of,
    ask_models,
    batch_of,
    class_metric,
    main_metric,
    predict_logits,
    rows_of,
    test_metrics,
    validation_score,
)
from limbeck.evaluation.omitted_class import best_bias, omitted_class_metrics
from limbeck.evaluation.speed import Speed, evaluate_models, measure_speed, milliseconds_per_batch
from limbeck.tasks.metrics import ClassificationMetrics, calibration_error, classification_metrics

__all__ = [
    "Answers",
    "ArmResult",
    "ClassificationMetrics",
    "Estimate",
    "Measured",
    "Speed",
    "aligned_outputs",
    "answers_of",
    "ask_models",
    "batch_of",
    "best_bias",
    "calibration_error",
    "class_metric",
    "classification_metrics",
    "difference",
    "evaluate_models",
    "main_metric",
    "measure_speed",
    "milliseconds_per_batch",
    "omitted_class_metrics",
    "predict_logits",
    "rows_of",
    "test_metrics",
    "train_arms",
    "validation_score",
]
