"""``transformers.Trainer`` with a teacher: the training loop is theirs, the loss is ours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils.import_utils import is_peft_available

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses import LossParts
from limbeck.models import forward_logits, save_model
from limbeck.models.forward import call_model, heads_of, logits_of
from limbeck.models.loading import model_files
from limbeck.tasks import Task, has_numbers, resolve_task
from limbeck.teachers import TeacherLike
from limbeck.temperature import Policy
from limbeck.training.arguments import DistillationArguments
from limbeck.training.checkpoints import find_checkpoint
from limbeck.training.meters import TrainingMeter, logs_after_step
from limbeck.training.not_finite import check_weights, error_about_loss
from limbeck.training.student_evaluation import StudentEvaluation
from limbeck.training.student_output import check_dtype, check_first_batch
from limbeck.training.teacher import Augment, check_teacher_given, choose_augmentation, resolve_teacher
from limbeck.training.teacher_quality import TeacherQuality


class DistillationTrainer(StudentEvaluation):
    """Train a student on a teacher's soft targets and on hard labels.

        loss = alpha * C(T) * D( softmax(z_t / T), softmax(z_s / T) ) + (1 - alpha) * CE(z_s, y)

    It is a ``transformers.Trainer``: mixed precision, DDP, checkpoints, schedules, logging and ``accelerate launch`` work
    as they do there. The loss is divided by the number of positions that count in the whole accumulated batch, on all
    processes, so it does not depend on how a batch was split.

    These are logged beside the loss: ``soft_loss`` (C(T) D), ``hard_loss`` (CE; 0 for an unlabelled position), ``agreement``
    (the fraction of positions at which both models have the same most likely class) and, if both terms count,
    ``gradient_ratio``: the norm of the soft term's gradient over that of the hard term's, with respect to the logits, with
    both terms weighted.

    Evaluation runs the student alone, at T = 1. Its ``eval_loss`` (cross-entropy per labelled position) and
    ``eval_accuracy`` are exact means over the whole set.

    Args:
        model: the student: a Hugging Face model, or any ``nn.Module`` whose ``forward`` returns logits, a tuple that begins
            with them, or an object or mapping with ``logits``.
        teacher: a module (called like the student; it is frozen and moved to the training device); a
            ``limbeck.teachers.Teacher`` or any callable that maps a batch to a ``TeacherOutput``; the name or folder of a
            model; or the folder or URL of a store. None only with ``alpha=0``.
        args: the settings; by default ``DistillationArguments("tmp_trainer")``.
        data_collator: joins rows of a data set into a batch; by default Transformers' own, which pads texts if
            ``processing_class`` is a tokenizer.
        train_dataset: the training examples. Labels are in ``labels``, -100 for an example without one.
        eval_dataset: the examples that ``evaluate`` uses, or a dictionary of several such sets.
        augment: changes a batch before both models see it; see ``limbeck.data.Augmentation``.
        task: how outputs meet labels: a name or a ``limbeck.tasks.Task``; by default what ``args.task`` says.
        processing_class: the student's tokenizer or image processor, which is saved with it.
        teacher_tokenizer: the teacher's tokenizer, where it is not saved beside the teacher's weights. Tokens are compared by
            their ids; language models that differ by padding columns are trained on the columns they share.
        model_init: makes a new student for each ``train()``, in place of ``model``. It is called without an argument, or with
            the trial of ``hyperparameter_search``.
        compute_metrics: maps an ``EvalPrediction``, the logits and labels of the whole set, to more metrics by name.
        callbacks: a list of ``TrainerCallback``, added to the default ones.
        optimizers: the optimiser and the schedule of the learning rate; by default those that ``args`` describes.
        preprocess_logits_for_metrics: changes each batch's logits, given (logits, labels), before ``compute_metrics`` gets
            them; for example to keep the most likely class only.

    Raises:
        ArgumentError: there is no teacher though ``alpha > 0``; the teacher shares parameters with the student; the teacher
            knows other views of the examples than ``augment`` shows; a token id means something else to it; a setting is not
            known; or one process has several GPUs.
        ArgumentTypeError: ``teacher`` is of no kind named above.

    Example:
        >>> import tempfile, torch
        >>> from limbeck import DistillationArguments, DistillationTrainer
        >>> _ = torch.manual_seed(0)
        >>> teacher, student = torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
        >>> data = [{"x": torch.randn(8), "labels": torch.tensor(i % 3)} for i in range(32)]
        >>> args = DistillationArguments(
        ...     tempfile.mkdtemp(), temperature=2.0, alpha=0.9, max_steps=20, learning_rate=0.1,
        ...     save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        ... )
        >>> trainer = DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data)
        >>> trainer.train().global_step  # doctest: +ELLIPSIS
        {'train_runtime': ...}
        20
        >>> 0 <= trainer.evaluate()["eval_accuracy"] <= 1  # doctest: +ELLIPSIS
        {'eval_loss': ...}
        True
    """

    # Our loss is divided by the whole batch's count; Transformers must not divide it again (the name since 5.19).
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | PreTrainedModel | None = None,
        teacher: TeacherLike | str | Path | None = None,
        args: DistillationArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        augment: Augment | None = None,
        task: str | Task | None = None,
        processing_class: Any = None,
        teacher_tokenizer: Any = None,
        model_init: Any = None,
        compute_metrics: Any = None,
        callbacks: Any = None,
        optimizers: Any = (None, None),
        preprocess_logits_for_metrics: Any = None,
    ) -> None:
        args = DistillationArguments(output_dir="tmp_trainer") if args is None else args
        _check_arguments(args)
        self.policy = args.policy()
        self._loss_settings = args.loss_settings()
        self._teacher = resolve_teacher(teacher, model, args)
        self._augment = choose_augmentation(augment, self._teacher)
        self.teacher_tokenizer = teacher_tokenizer
        self._teacher_only = frozenset()
        self._policy_moves = True
        self._prepared_policy: Policy | None = None
        with _without_label_smoothing(args):
            super().__init__(
                model=model,
                args=args,
                data_collator=data_collator,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                model_init=model_init,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            )
        self.label_names = ["labels"]  # the name in a batch, whatever that of the column
        self.model_accepts_loss_kwargs = True  # says the same as loss_is_scaled_for_ga to Transformers before 5.19
        check_dtype(self.student, args.device)
        self._task = resolve_task(args.task if task is None else task, self.student)
        self.objective = args.objective(self._task.family)
        self.teacher = self._teacher
        self._prepare_loss()
        self._output_checked = False
        self._teacher_quality = TeacherQuality(self._task)
        self._training_meter = TrainingMeter()

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train the student.

        Args:
            resume_from_checkpoint: the folder of a checkpoint to go on from; True for the last complete one in
                ``args.output_dir``.
            trial: as in ``transformers.Trainer``.
            ignore_keys_for_eval: as in ``transformers.Trainer``.

        Returns:
            Transformers' ``TrainOutput``: ``global_step``, ``training_loss`` and ``metrics``.

        Raises:
            ArgumentError: ``resume_from_checkpoint`` is True and there is no complete checkpoint.
            TrainingError: the loss or a weight has become NaN or infinite. The error names the step and the examples.
        """
        if resume_from_checkpoint is True:
            checkpoint, torn = find_checkpoint(cast(str, self.args.output_dir))
            found = f" ({'; '.join(torn)})" if torn else ""
            if checkpoint is None:
                raise ArgumentError(
                    "resume_from_checkpoint", f"no complete checkpoint in {self.args.output_dir}{found}."
                )
            if torn:
                warnings.warn(
                    f"The run goes on from {checkpoint.name}, since newer ones are not whole{found}.", stacklevel=2
                )
            resume_from_checkpoint = str(checkpoint)
        if self.model_init is not None:  # a new student begins with a new policy
            self.policy = self._settings.policy()
        self._follow_arguments()
        check_teacher_given(self.teacher, self._settings)
        self._prepare_loss()
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        check_weights(self.state.global_step, self.student)
        return output

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss of one micro-batch after its backward pass.

        Args:
            model: the student, with its wrappers.
            inputs: the batch.
            *args: as in ``transformers.Trainer``.
            **kwargs: as in ``transformers.Trainer``.

        Raises:
            TrainingError: the loss is not finite. The weights are still those from before the step.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not math.isfinite(loss.item()):
            batch = self._completed(cast(dict[str, Any], self._prepare_inputs(inputs)))
            with torch.no_grad():
                student = forward_logits(model, self._student_inputs(batch), signature_of=self.student)
                raise error_about_loss(self.state.global_step + 1, batch, student, self._teacher_targets(batch))
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint, but never NaN: older checkpoints are removed for newer ones."""
        check_weights(self.state.global_step, self.student)
        super()._save_checkpoint(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """Return the micro-batches of one step, and the number of positions that count in them on all processes."""
        self._follow_arguments()
        self._policy_moves = True
        self._training_meter.begin_step()
        for part in self._learned_beside().values():
            part.zero_grad()  # the Trainer clears the model's gradients only
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        return batches, self._over_processes(self._count(batches).to(device))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch: its part of the whole batch's mean.

        Args:
            model: the student, with its wrappers.
            inputs: the batch, on the training device.
            return_outputs: whether to return the student's logits as well.
            num_items_in_batch: the number of positions that count in the whole step; by default those of this batch.

        Returns:
            The loss; or a pair, the loss and a dictionary with ``logits``.

        Raises:
            ArgumentError: the hard term needs labels, and the batch has none; or the student's output cannot be trained.
        """
        states = self._hidden_states
        if states is None:
            return self._compared(model, inputs, return_outputs, num_items_in_batch)
        with states.recording():
            found = self._compared(model, inputs, return_outputs, num_items_in_batch)
        of_states = states(self.task.align, self._targets(self._completed(inputs)).mask, num_items_in_batch)
        of_states = self._for_all_processes(of_states, num_items_in_batch)
        return (found[0] + of_states, found[1]) if return_outputs else found + of_states

    def _compared(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool, num_items_in_batch: Tensor | int | None
    ) -> Any:
        """Return what ``compute_loss`` does, without the term of hidden states."""
        if self.augment is not None:
            inputs = self.augment(inputs)
        inputs = self._completed(inputs)
        targets = self._targets(inputs)
        if targets.labels is None and self.objective.alpha < 1:
            raise ArgumentError(
                "train_dataset",
                f"its batches have {', '.join(inputs)} and no labels, which alpha = {self.objective.alpha:g} needs. "
                f"{self.task.where_labels_come_from}, or train on the teacher alone with alpha=1.",
            )
        head = None if return_outputs else self._head_for_loss(model, inputs)
        if head is not None:
            parts = self._fused_parts(head, model, inputs, targets, num_items_in_batch)
            return self._for_all_processes(parts.total, num_items_in_batch)
        output = call_model(model, self._student_inputs(inputs), signature_of=self.student)
        raw_logits = logits_of(output, self.student)
        logits = self.task.align(self.task.fit(raw_logits, inputs, "student"))
        if not self._output_checked:
            self.task.check_logits(raw_logits)
        logits, teacher = self._on_shared_columns(logits, self._teacher_targets(inputs))
        if not self._output_checked:
            compares_columns = not has_numbers(self.task) and self._settings.alignment is None
            may_be_probabilities = teacher if compares_columns else None
            check_first_batch(output, raw_logits, may_be_probabilities, targets, logits.shape[-1])
            self._output_checked = True
        if not self._teacher_quality.is_known and "mixup_weight" not in inputs:
            self._teacher_quality.add(teacher, targets)
        if self._projector is not None:
            logits = self._projector(logits)
        targets = self._mixed(targets, inputs, logits)
        heads = heads_of(output) if teacher is not None and 0 < self.objective.alpha < 1 else None
        trained = logits if heads is None else torch.stack([self.task.align(head) for head in heads])
        parts_of = self._loss_parts if heads is None else self._parts_of_heads
        del output

        def parts_for(trained: Tensor) -> LossParts:
            return parts_of(trained, teacher, targets, num_items_in_batch)

        parts = parts_for(trained)
        self._policy_moves = False  # the rest of the step, and the measurement below, are at the same T
        if teacher is not None and self.args.logging_strategy != "no":
            agreement = None if self._settings.alignment else self.task.agreement(logits.detach(), teacher)
            self._training_meter.add(parts, agreement, targets.mask, num_items_in_batch)
            if logs_after_step(self.args, self.state):
                self._training_meter.add_gradients(parts_for, trained, self.objective.alpha)
        loss = self._for_all_processes(parts.total, num_items_in_batch)
        return (loss, {"logits": raw_logits}) if return_outputs else loss

    def _for_all_processes(self, loss: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Return a loss that was divided by the positions of all processes as DDP takes it, which divides once more."""
        processes = self.accelerator.num_processes
        return loss if num_items is None or processes == 1 else loss * processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add what the training meter has measured since the last log."""
        if "loss" in logs and self.teacher is not None:
            logs.update(self._training_meter.means(self._over_processes))
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write safetensors, also for plain modules with tied weights, and no pickle of the arguments."""
        folder = Path(cast(str, self.args.output_dir) if output_dir is None else output_dir)
        if isinstance(self.student, _pretrained_classes()):
            if not self.args.should_save:  # it takes part in gathering the weights, and writes nothing
                super()._save(str(folder), state_dict)
                return
            with model_files(folder) as aside:
                super()._save(str(aside), state_dict)
                (aside / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        elif self.args.should_save:
            save_model(self.student, folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(str(folder))


@contextmanager
def _without_label_smoothing(args: DistillationArguments) -> Iterator[None]:
    """Hide the label smoothing from the Trainer: its own smoother reads ``model.config``, and our hard term has the factor."""
    smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
    try:
        yield
    finally:
        args.label_smoothing_factor = smoothing


def _pretrained_classes() -> tuple[type, ...]:
    if is_peft_available():
        from peft import PeftModel  # pyright: ignore[reportMissingImports]

        return (PreTrainedModel, PeftModel)
    return (PreTrainedModel,)


def _check_arguments(args: DistillationArguments) -> None:
    if not isinstance(args, DistillationArguments):
        raise ArgumentTypeError("args", f"expected DistillationArguments, got {type(args).__name__}.")
    if args.device.type == "cpu":
        for name in ("fp16", "fp16_full_eval"):
            if getattr(args, name):
                raise ArgumentError(name, "needs a GPU. Leave it out, or take bf16.")
    if args.n_gpu > 1:
        raise ArgumentError(
            "args",
            f"{args.n_gpu} GPUs in one process (DataParallel) are not supported. "
            f"Start one process for each: accelerate launch --num_processes {args.n_gpu} your_script.py",
        )
