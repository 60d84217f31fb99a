"""How good a student is, measured at T = 1: metrics, speed, and comparisons over seeds.

This room is not public: the commands use it. It may import ``tasks``, ``data``, ``models``, ``losses`` and the rooms below
them.
"""

from limbeck.evaluation.arms import ArmResult, Measured, difference, train_arms
from limbeck.evaluation.estimates import Estimate
from limbeck.evaluation.inference import (
    evaluate_models,
    main_metric,
    milliseconds_per_batch,
    predict_logits,
    test_metrics,
)
from limbeck.evaluation.omitted_class import best_bias, omitted_class_metrics
from limbeck.tasks.metrics import ClassificationMetrics, calibration_error, classification_metrics

__all__ = [
    "ArmResult",
    "ClassificationMetrics",
    "Estimate",
    "Measured",
    "best_bias",
    "calibration_error",
    "classification_metrics",
    "difference",
    "evaluate_models",
    "main_metric",
    "milliseconds_per_batch",
    "omitted_class_metrics",
    "predict_logits",
    "test_metrics",
    "train_arms",
]
