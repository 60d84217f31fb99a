"""How good is a student? Everything here is at T = 1: plain softmax or argmax of the logits."""

from limbeck.evaluation.arms import ArmResult, Estimate, difference, train_arms
from limbeck.evaluation.inference import evaluate_models, milliseconds_per_batch, predict_logits
from limbeck.evaluation.metrics import ClassificationMetrics, calibration_error, classification_metrics
from limbeck.evaluation.omitted_class import best_bias, omission

__all__ = [
    "ArmResult",
    "ClassificationMetrics",
    "Estimate",
    "best_bias",
    "calibration_error",
    "classification_metrics",
    "difference",
    "evaluate_models",
    "milliseconds_per_batch",
    "omission",
    "predict_logits",
    "train_arms",
]
