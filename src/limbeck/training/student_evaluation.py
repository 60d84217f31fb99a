"""The evaluation of a student while it is trained and afterwards: alone, at T = 1, with exact means over the set."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.models import forward_logits
from limbeck.training.meters import EvaluationMeter
from limbeck.training.run_parts import RunParts


class StudentEvaluation(RunParts):
    """The part of ``DistillationTrainer`` that evaluates and predicts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._evaluation_meter = EvaluationMeter()

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the loss, logits and labels of one batch, from the student alone at T = 1."""
        inputs = self._completed(cast(dict[str, Any], self._prepare_inputs(inputs)))
        with torch.no_grad():
            raw_logits = forward_logits(model, self._student_inputs(inputs), signature_of=self.student)
        self.task.check_logits(raw_logits)
        labels = self.task.targets(inputs).labels
        loss = None
        if labels is not None:
            logits = self.task.align(self.task.fit(raw_logits, inputs, "student"))
            examples = self._evaluation_meter.sums_per_example(self.task, logits, labels)
            self._evaluation_meter.add(cast(Tensor, self.accelerator.gather_for_metrics(examples)))
            loss = examples[:, 1].sum() / examples[:, 0].sum().clamp(min=1)
        if prediction_loss_only:
            return loss, None, None
        return loss, raw_logits, inputs.get("labels")

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Run the Trainer's loop and return its output, with exact means over the set in place of means of batch means."""
        self._evaluation_meter.reset()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = cast(dict[str, float], output.metrics)
        for name, value in self._evaluation_meter.means().items():
            if name == "loss" or f"{prefix}_{name}" not in metrics:
                metrics[f"{prefix}_{name}"] = value
        return output
