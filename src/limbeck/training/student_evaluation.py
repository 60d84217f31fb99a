"""The evaluation of a student while it is trained and afterwards: alone, at T = 1, with exact means over the set."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.models import forward_logits
from limbeck.models.heads import Head
from limbeck.training.fused import FusedLoss
from limbeck.training.meters import EvaluationMeter


class StudentEvaluation(FusedLoss):
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
        labels = self.task.counted_labels(self.task.targets(inputs))
        with torch.no_grad():
            head = self._head_of_student(model, inputs) if prediction_loss_only and labels is not None else None
            if head is not None and labels is not None:
                return self._measured(self._sums_by_chunks(head, model, inputs, labels)), None, None
            raw_logits = forward_logits(model, self._student_inputs(inputs), signature_of=self.student)
        self.task.check_logits(raw_logits)
        loss = None
        if labels is not None:
            logits = self.task.align(self.task.fit(raw_logits, inputs, "student"))
            loss = self._measured(self._evaluation_meter.sums_per_example(self.task, logits, labels))
        if prediction_loss_only:
            return loss, None, None
        return loss, raw_logits, inputs.get("labels")

    def _sums_by_chunks(self, head: Head, model: nn.Module, batch: dict[str, Any], labels: Tensor) -> Tensor:
        """Return what the meter needs of each example, from logits that exist for some positions at a time."""

        def sums(hidden: Tensor) -> Tensor:
            hidden = self.task.align(hidden)
            of_parts = [
                self._evaluation_meter.sums_per_example(self.task, head.logits(hidden[:, part]), labels[:, part])
                for part in head.parts(hidden)
            ]
            return torch.stack(of_parts).sum(0)

        return head.run(lambda: self._call_student(model, batch), sums)

    def _measured(self, examples: Tensor) -> Tensor:
        """Add the sums of a batch's examples, of all processes, to the evaluation, and return the batch's own loss."""
        self._evaluation_meter.add(cast(Tensor, self.accelerator.gather_for_metrics(examples)))
        return examples[:, 1].sum() / examples[:, 0].sum().clamp(min=1)

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
