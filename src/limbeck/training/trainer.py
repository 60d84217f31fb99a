"""``transformers.Trainer`` with a teacher: the engine is theirs, the objective ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils.import_utils import is_peft_available

from limbeck.losses import LossParts, SparseTargets
from limbeck.models import forward_logits, load_model, save_model
from limbeck.store import StoredTeacher, is_store
from limbeck.teachers import LiveTeacher, Teacher, TeacherOutput
from limbeck.training.arguments import DistillationArguments
from limbeck.training.checkpoints import last_complete_checkpoint
from limbeck.training.columns import drop_unused_columns
from limbeck.training.meters import DistillationMeter, EvaluationMeter
from limbeck.training.tasks import IGNORE, Targets, Task, resolve_task

POLICY = "temperature.safetensors"

Augment = Callable[[dict[str, Any]], dict[str, Any]]


class DistillationTrainer(Trainer):
    """Train a student on a teacher's soft targets and on hard labels.

        loss = alpha * C(T) * D( softmax(z_t / T), softmax(z_s / T) ) + (1 - alpha) * CE(z_s, y)

    It is a ``transformers.Trainer``: mixed precision, DDP, checkpoints, schedules, logging and ``accelerate launch`` work
    as they do there. The loss is divided by the number of positions that count in the whole accumulated batch, on all
    processes, so it does not depend on how a batch was split.

    Logged beside the loss: ``soft_loss`` (C(T) D), ``hard_loss`` (CE; 0 for an unlabelled position), ``agreement`` (the share
    of positions where both models have the same first class) and, where both terms count, ``gradient_ratio``: the norm of
    the soft term's gradient over that of the hard term's, with respect to the logits, alpha included.

    Evaluation runs the student alone, at T = 1. Its ``eval_loss`` (cross-entropy per labelled position) and
    ``eval_accuracy`` are exact over the whole set.

    Args:
        model: the student: an ``nn.Module`` whose forward returns logits, a tuple that begins with them or an output
            with ``.logits``; or a Hugging Face model.
        teacher: a module (likewise; it is frozen and moved to the training device), a
            ``limbeck.teachers.Teacher``, the name or folder of a model, or the folder or URL of a store. None only with
            ``alpha=0``.
        args: the settings.
        augment: changes a batch before both models see it; see ``limbeck.data.Augmentation``.
        task: how logits meet labels; by default what ``args.task`` says.
        data_collator: as in ``transformers.Trainer``, and so are the others that are not named here.

    Raises:
        ValueError: no teacher though ``alpha > 0``; a teacher that shares parameters with the student; several GPUs
            without a launcher.

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
        teacher: nn.Module | Teacher | str | Path | None = None,
        args: DistillationArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        augment: Augment | None = None,
        task: Task | None = None,
        processing_class: Any = None,
        compute_metrics: Any = None,
        callbacks: Any = None,
        optimizers: Any = (None, None),
        preprocess_logits_for_metrics: Any = None,
    ) -> None:
        args = DistillationArguments(output_dir="tmp_trainer") if args is None else args
        if args.n_gpu > 1:
            raise ValueError(
                f"{args.n_gpu} GPUs in one process (DataParallel) are not supported. "
                f"Start one process for each: accelerate launch --num_processes {args.n_gpu} your_script.py"
            )
        self.objective, self.policy = args.objective(), args.policy()
        _check_teacher(teacher, model, args.alpha)
        resolved = _resolve_teacher(teacher, args)
        if augment is not None and getattr(resolved, "one_view", False):
            raise ValueError(
                "augment: this teacher was asked before about one view of each example, and the student would see another. "
                "Train without augmentation, with a store of several views, or with the teacher itself."
            )
        if isinstance(resolved, StoredTeacher) and resolved.views is not None:
            if augment not in (None, resolved.views):
                raise ValueError(
                    f"augment: the stored teacher was asked about {resolved.views}. Leave it out, or give that."
                )
            augment = resolved.views
        if args.remove_unused_columns:
            models = [model, resolved.model if isinstance(resolved, LiveTeacher) else None]
            train_dataset = drop_unused_columns(train_dataset, models)
            eval_dataset = drop_unused_columns(eval_dataset, models)
            args.remove_unused_columns = False  # done, by both models' needs; the Trainer would go by the student's
        args.label_names = ["labels"] if args.label_names is None else args.label_names

        # The Trainer's own label smoother reads model.config, which a plain module lacks; our hard term has the factor.
        smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        args.label_smoothing_factor = smoothing
        self.model_accepts_loss_kwargs = True  # the same word as loss_is_scaled_for_ga, for Transformers before 5.19
        self.augment = augment
        self.task = resolve_task(args.task if task is None else task, self._student)
        self.objective.to(args.device)
        self._prepare_policy()
        self.teacher = None if resolved is None else resolved.to(args.device)
        self._train_meter = DistillationMeter()
        self._eval_meter = EvaluationMeter()

    @property
    def _student(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train; ``resume_from_checkpoint=True`` goes on from the last checkpoint that was written to its end."""
        if resume_from_checkpoint is True:
            checkpoint = last_complete_checkpoint(cast(str, self.args.output_dir))
            if checkpoint is None:
                raise ValueError(f"resume_from_checkpoint: no complete checkpoint in {self.args.output_dir}.")
            resume_from_checkpoint = str(checkpoint)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one step, and how many positions count in them on all processes."""
        self._train_meter.begin_step()
        if self.policy is not None:
            self.policy.zero_grad()  # the Trainer clears the model's gradients alone
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        counted = sum((self._targets(batch).mask.sum() for batch in batches), torch.zeros((), dtype=torch.long))
        return batches, cast(Tensor, self.accelerator.reduce(counted.to(device), "sum"))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one micro-batch: its share of the whole batch's mean."""
        if self.augment is not None:
            inputs = self.augment(inputs)
        targets = self._targets(inputs)
        raw_logits = forward_logits(model, inputs, signature_of=self._student)
        logits = self.task.align(raw_logits)
        teacher = None if self.teacher is None else self._aligned(self.teacher(inputs))

        def parts_for(logits: Tensor) -> LossParts:
            return self._parts(logits, teacher, targets, inputs, num_items_in_batch)

        parts = parts_for(logits)
        if teacher is not None and self.args.logging_strategy != "no":
            self._train_meter.add(parts, logits, teacher, targets.mask, num_items_in_batch)
            if self._is_logging_step():
                self._train_meter.add_gradients(parts_for, logits, self.objective.alpha)
        loss = parts.total
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # which DDP will divide by
        return (loss, {"logits": raw_logits}) if return_outputs else loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The student alone, at T = 1."""
        inputs = cast(dict[str, Any], self._prepare_inputs(inputs))
        with torch.no_grad():
            raw_logits = forward_logits(model, inputs, signature_of=self._student)
        labels = self.task.targets(inputs).labels
        loss = None
        if labels is not None:
            rows = self._eval_meter.rows(self.task.align(raw_logits), labels)
            self._eval_meter.add(cast(Tensor, self.accelerator.gather_for_metrics(rows)))
            loss = rows[:, 0].sum() / rows[:, 2].sum().clamp(min=1)
        if prediction_loss_only:
            return loss, None, None
        return loss, raw_logits, inputs.get("labels")

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's loop, with exact means over the set in place of means of batch means."""
        self._eval_meter.reset()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = cast(dict[str, float], output.metrics)
        for name, value in self._eval_meter.means().items():
            if name == "loss" or f"{prefix}_{name}" not in metrics:
                metrics[f"{prefix}_{name}"] = value
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the parts of the loss since the last time."""
        if "loss" in logs and self.teacher is not None:
            logs.update(self._train_meter.means(lambda t: cast(Tensor, self.accelerator.reduce(t, "sum"))))
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write safetensors, tied weights of plain modules too, and no pickle of the arguments."""
        folder = Path(cast(str, self.args.output_dir) if output_dir is None else output_dir)
        if isinstance(self._student, _pretrained_classes()):
            super()._save(str(folder), state_dict)
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        elif self.args.should_save:
            save_model(self._student, folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(str(folder))

    def create_optimizer(self, model: Any = None) -> Any:
        """The Trainer's optimiser; where the temperature is learned, it learns that too."""
        begun = self.optimizer is not None
        optimizer = super().create_optimizer(*([] if model is None else [model]))
        learned = [] if self.policy is None else list(self.policy.parameters())
        if learned and not begun:
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        return optimizer

    def _prepare_policy(self) -> None:
        if self.policy is None:
            return
        self.policy.to(self.args.device)
        for parameter in self.policy.parameters():  # which DDP does not know of
            parameter.register_hook(lambda gradient: cast(Tensor, self.accelerator.reduce(gradient, "mean")))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Beside the optimiser: it belongs to the run, and never to the student."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.policy is not None and self.policy.state_dict() and self.args.should_save:
            save_file(self.policy.state_dict(), Path(output_dir) / POLICY)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.policy is not None and (Path(checkpoint) / POLICY).is_file():
            self.policy.load_state_dict(load_file(Path(checkpoint) / POLICY))

    def _aligned(self, output: TeacherOutput) -> Tensor | SparseTargets:
        """What the teacher said at the positions that have a target."""
        if output.targets is not None:
            return output.targets.apply(self.task.align)
        assert output.logits is not None
        return self.task.align(output.logits)

    def _targets(self, batch: Mapping[str, Any]) -> Targets:
        targets = self.task.targets(batch)
        if self.objective.alpha == 0 and targets.labels is not None:
            # Without a soft term an unlabelled position teaches nothing, and must not thin out the others.
            return Targets(targets.labels, targets.mask & (targets.labels != IGNORE))
        return targets

    def _parts(
        self,
        logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        targets: Targets,
        inputs: dict[str, Any],
        num_items: Any,
    ) -> LossParts:
        softened: dict[str, Any] = {}
        if self.policy is not None and teacher is not None:
            known = teacher if isinstance(teacher, Tensor) else None
            progress = self.state.global_step / max(1, self.state.max_steps)
            softening = self.policy(logits, known, targets.labels, progress)
            softened = {"temperature": softening.temperature, "scale": softening.scale}
            for running in self.policy.buffers():  # each process saw its own part of the batch
                running.copy_(cast(Tensor, self.accelerator.reduce(running, "mean")))

        def parts(labels: Tensor | None) -> LossParts:
            return self.objective.parts(logits, teacher, labels, mask=targets.mask, num_items=num_items, **softened)

        first = parts(targets.labels)
        if "mixup_weight" not in inputs or targets.labels is None:
            return first
        # Both terms are linear in the labels' share: the soft one is the same for either label.
        share, second = inputs["mixup_weight"], parts(inputs["mixup_labels"])
        hard = None if first.hard is None or second.hard is None else share * first.hard + (1 - share) * second.hard
        return LossParts(share * first.total + (1 - share) * second.total, first.soft, hard)

    def _is_logging_step(self) -> bool:
        step, strategy = self.state.global_step + 1, self.args.logging_strategy
        if self.args.logging_first_step and step == 1:
            return True
        if strategy == "steps":
            return step % max(1, int(self.state.logging_steps or 0)) == 0
        if strategy == "epoch":
            epoch = self.state.max_steps / max(1, self.state.num_train_epochs)
            return math.floor(step / epoch) > math.floor((step - 1) / epoch)
        return False


def _pretrained_classes() -> tuple[type, ...]:
    if is_peft_available():
        from peft import PeftModel  # pyright: ignore[reportMissingImports]

        return (PreTrainedModel, PeftModel)
    return (PreTrainedModel,)


def _resolve_teacher(teacher: nn.Module | Teacher | str | Path | None, args: DistillationArguments) -> Teacher | None:
    if isinstance(teacher, str | Path):
        teacher = StoredTeacher(teacher) if is_store(teacher) else load_model(teacher)
    if isinstance(teacher, nn.Module):
        dtypes = {None: None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        if args.teacher_dtype not in dtypes:
            raise ValueError(f"teacher_dtype: expected 'float32', 'bfloat16' or 'float16', got {args.teacher_dtype!r}.")
        return LiveTeacher(teacher, dtypes[args.teacher_dtype])
    if teacher is not None and not isinstance(teacher, Teacher):
        raise TypeError(f"teacher: expected a module, a Teacher or a path, got {type(teacher).__name__}.")
    return teacher


def _check_teacher(teacher: Any, student: nn.Module | None, alpha: float) -> None:
    if teacher is None and alpha > 0:
        raise ValueError(
            f"teacher: needed for the soft term when alpha = {alpha}. Pass one, or alpha=0 to train without."
        )
    module = teacher.model if isinstance(teacher, LiveTeacher) else teacher
    if isinstance(module, nn.Module) and student is not None:
        own = {id(parameter) for parameter in student.parameters()}
        if any(id(parameter) in own for parameter in module.parameters()):
            raise ValueError(
                "teacher: it shares parameters with the student, and freezing it freezes the student. "
                "Pass copy.deepcopy(model) as the teacher."
            )
