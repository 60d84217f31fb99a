"""The fused loss of a language model: the projection to the vocabulary is part of it, and the logits are never whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.losses import DistillationLoss, LossParts, SparseTargets
from limbeck.losses.projection import Unprojected, logits_placeholder
from limbeck.models.forward import call_model, logits_of
from limbeck.models.heads import Head, find_head
from limbeck.tasks import CausalLM, Targets
from limbeck.teachers import LiveTeacher
from limbeck.training.meters import RowMeter, TrainingMeter, logs_after_step
from limbeck.training.run_parts import RunParts
from limbeck.training.student_output import check_first_batch, check_student_output
from limbeck.training.teacher_quality import TeacherQuality

Batch = dict[str, Any]


class FusedLoss(RunParts):
    """The part of ``DistillationTrainer`` that trains and evaluates language models without whole logits.

    Whether it can is found out with the first batch, by a proof on the models themselves.
    """

    _training_meter: TrainingMeter
    _teacher_quality: TeacherQuality
    _output_checked: bool
    _student_head: tuple[nn.Module, Head | None] | None = None
    """The student that was looked at, and its head."""
    _fuses: tuple[Any, bool] | None = None
    """What the answer depends on, and whether the loss is fused."""

    def _head_of_student(self, model: nn.Module, batch: Batch) -> Head | None:
        """Return the student's head, or None where its logits are whole.

        Args:
            model: the student, with its wrappers.
            batch: one of the student's.
        """
        if self._settings.fused_loss is False:
            return None
        if not isinstance(self.task, CausalLM):
            if self._settings.fused_loss is True:
                self._say_dense(f"it is for causal language models, and the task is {self.task.name!r}")
            return None
        if self._student_head is None or self._student_head[0] is not self.student:
            head, fault = None, ""
            try:
                head = find_head(self.student, batch, call=lambda given: self._call_student(model, given))
            except ModelError as error:
                fault = f"of the student, {error}"
            head = head if self._all_agree(head is not None) else None
            if head is None:
                self._say_dense(fault or "another process cannot")
            self._student_head = self.student, head
        return self._student_head[1]

    def _head_for_loss(self, model: nn.Module, batch: Batch) -> Head | None:
        """Return the student's head if the loss of this run can be fused, else None."""
        head = self._head_of_student(model, batch)
        if head is None or "mixup_weight" in batch:
            return None
        depends_on = head, self.teacher, self.policy, self.objective
        if self._fuses is None or any(x is not y for x, y in zip(self._fuses[0], depends_on, strict=True)):
            try:
                self._check_fusible(batch)
                fault = ""
            except ModelError as error:
                fault = str(error)
            fuses = self._all_agree(not fault)
            if not fuses:
                self._say_dense(fault or "another process cannot")
            self._fuses = depends_on, fuses
        return head if self._fuses[1] else None

    def _check_fusible(self, batch: Batch) -> None:
        """Check that the loss can be computed without whole logits.

        Raises:
            ModelError: it cannot; the message says why.
        """
        if type(self.objective) is not DistillationLoss:
            raise ModelError(f"the loss is a {type(self.objective).__name__}")
        if any(not isinstance(value, int | float) for value in self.objective.divergence.parameter_values):
            raise ModelError("the divergence has parameters that are no numbers")
        policy = self.policy
        if policy is not None and (policy.reads_softmax or any(True for _ in policy.parameters())):
            raise ModelError(f"the temperature's policy {policy.name!r} reads all logits or is learned")
        if isinstance(self.teacher, LiveTeacher):
            self.teacher.find_head(batch)
        elif isinstance(self._fused_teacher(batch), Tensor):
            raise ModelError("the teacher gives logits, and not the weights that they are made with")

    def _fused_parts(
        self, head: Head, model: nn.Module, batch: Batch, targets: Targets, num_items: Tensor | int | None
    ) -> LossParts:
        """Return the loss of a batch with its terms, and measure what is logged.

        Args:
            head: the student's.
            model: the student, with its wrappers.
            batch: what both models are called with.
            targets: the labels, and the positions that count.
            num_items: the number of positions that count in the whole step.
        """
        teacher: Unprojected | SparseTargets | None = self._fused_teacher(batch)
        is_measured = teacher is not None and self.args.logging_strategy != "no"
        with_gradients = is_measured and logs_after_step(self.args, self.state) and 0 < self.objective.alpha < 1
        meter = RowMeter(self.task, _counted(teacher, targets.mask), with_gradients=with_gradients)
        found = list[LossParts]()

        def loss(hidden: Tensor) -> Tensor:
            student = head.unprojected(self.task.align(hidden))
            classes, known = self._shared_classes(student, teacher)
            if not self._output_checked:
                self._check_first(head, known, targets, classes)
            softening = self._softening(
                logits_placeholder(student.hidden, classes), _placeholder(known, classes), targets
            )
            parts = self.objective.unprojected_parts(
                student, known, targets.labels, classes=classes, mask=targets.mask, num_items=num_items,
                watch=meter.watching if is_measured else None, **softening,
            )  # fmt: skip
            found.append(parts)
            return parts.total

        def call() -> Any:
            output = self._call_student(model, batch)
            if not self._output_checked:
                check_student_output(output, logits_of(output, self.student))
            self._output_checked = True
            return output

        parts = LossParts(head.run(call, loss), found[0].soft, found[0].hard)
        self._policy_moves = False
        if is_measured:
            self._training_meter.add(parts, meter.agreement(targets.mask), targets.mask, num_items)
            self._training_meter.add_squares(meter.squares)
        return parts

    def _fused_teacher(self, batch: Batch) -> Any:
        """Return the teacher's targets at the positions that have one: logits that are not computed, if it has them so."""
        known = None if self.teacher is None else self.teacher.unprojected(batch)
        if known is None:
            return self._teacher_targets(batch)
        return known._replace(hidden=self.task.align(known.hidden))

    def _shared_classes(
        self, student: Unprojected, teacher: Unprojected | SparseTargets | None
    ) -> tuple[int, Unprojected | SparseTargets | None]:
        """Return the number of leading columns that both models share, and the teacher on these."""
        width = len(student.layer.weight)
        theirs = _placeholder(teacher, None)
        logits, cut = self._on_shared_columns(logits_placeholder(student.hidden, width), theirs)
        return logits.shape[-1], teacher if isinstance(cut, Tensor) else cut

    def _check_first(
        self, head: Head, teacher: Unprojected | SparseTargets | None, targets: Targets, classes: int
    ) -> None:
        """Check the first batch as that of whole logits is, with the logits on which the heads were proved."""
        self.task.check_logits(head.sample)
        known = self.teacher.head.sample if isinstance(self.teacher, LiveTeacher) and self.teacher.head else teacher
        check_first_batch(None, head.sample, None if isinstance(known, Unprojected) else known, targets, classes)
        self._teacher_quality.add(None, targets)  # it compares examples with one label each

    def _call_student(self, model: nn.Module, batch: Mapping[str, Any]) -> Any:
        """Return what the student returns for a batch."""
        return call_model(model, self._student_inputs(dict(batch)), signature_of=self.student)

    def _all_agree(self, yes: bool) -> bool:
        """Return True if all processes say yes."""
        return not self._over_processes(torch.tensor(float(not yes), device=self.args.device)).item()

    def _say_dense(self, reason: str) -> None:
        """Say once why logits are whole; raise an error where the arguments ask for the fused loss."""
        if self._settings.fused_loss is True:
            raise ArgumentError("fused_loss", f"the loss cannot be fused: {reason}. Leave it out, or set it to False.")
        if self.is_world_process_zero():
            _warn_once(f"The logits of this language model are computed whole: {reason}.")


@cache
def _warn_once(message: str) -> None:
    logging.getLogger("limbeck").warning(message)


def _placeholder(teacher: Unprojected | SparseTargets | None, classes: int | None) -> Tensor | SparseTargets | None:
    """Return a tensor without meaning in the shape of the teacher's logits; sparse targets and None as they are.

    Args:
        teacher: what is known of the teacher.
        classes: the number of columns; None for all of them.
    """
    if not isinstance(teacher, Unprojected):
        return teacher
    return logits_placeholder(teacher.hidden, len(teacher.layer.weight) if classes is None else classes)


def _counted(teacher: Unprojected | SparseTargets | None, mask: Tensor) -> SparseTargets | None:
    """Return the sparse targets of the positions that count, in their order; None for another teacher."""
    return teacher.apply(lambda values: values[mask]) if isinstance(teacher, SparseTargets) else None
