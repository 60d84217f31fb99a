"""The parts of a run: its teacher, task, augmentation and loss, and what they become when somebody changes them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Trainer

from limbeck.deprecation import stacklevel_of_user
from limbeck.errors import ArgumentError
from limbeck.losses import IGNORE_INDEX, DistillationLoss, LossParts, SparseTargets
from limbeck.losses.labels import mixed_labels, most_likely_classes
from limbeck.models import floating_dtype, forward_logits, tokens_of
from limbeck.models.forward import NOT_MODEL_INPUTS
from limbeck.tasks import CausalLM, Targets, Task, resolve_task
from limbeck.teachers import Teacher, TeacherLike
from limbeck.teachers.live import check_separate
from limbeck.temperature import Policy
from limbeck.training.arguments import DistillationArguments
from limbeck.training.batches import Collate
from limbeck.training.checkpoints import HIDDEN_FILE, POLICY_FILE, PROJECTOR_FILE, load_beside, save_beside
from limbeck.training.columns import drop_unused_columns, teacher_only_columns
from limbeck.training.hidden_states import HiddenStates, hidden_states_of
from limbeck.training.teacher import (
    Augment,
    check_teacher_fits,
    check_teacher_given,
    choose_augmentation,
    reading_own_tokens,
    resolve_teacher,
)
from limbeck.training.vocabularies import SharedVocabulary


class RunParts(Trainer):
    """A ``transformers.Trainer`` that knows what a run is made of, and follows its arguments where they are changed.

    ``DistillationTrainer`` is the one subclass. Its constructor sets what is declared here.
    """

    objective: DistillationLoss
    policy: Policy | None
    _teacher: Teacher | None
    _augment: Augment | None
    _task: Task
    _shared_vocabulary: SharedVocabulary
    teacher_tokenizer: Any
    _loss_settings: dict[str, Any]
    _policy_moves: bool
    _teacher_only: frozenset[str]
    _prepared_policy: Policy | None
    _projector: nn.Linear | None = None
    _hidden_states: HiddenStates | None = None
    _unwrapped: tuple[Any, Any] = (None, None)
    _said_that_nothing_counts = False

    @property
    def _settings(self) -> DistillationArguments:
        return cast(DistillationArguments, self.args)

    @property
    def student(self) -> nn.Module:
        """Return the model that is trained, without the wrappers of DDP and ``torch.compile``."""
        if (
            self._unwrapped is None or self._unwrapped[0] is not self.model
        ):  # to look for wrappers takes long in every step
            self._unwrapped = self.model, self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return self._unwrapped[1]

    @property
    def teacher(self) -> Teacher | None:
        """Return the teacher, on the training device. What is set here becomes one as the trainer's argument does."""
        return self._teacher

    @teacher.setter
    def teacher(self, teacher: TeacherLike | str | Path | None) -> None:
        resolved = self._teacher
        if teacher is not self._teacher:
            resolved = None if teacher is None else resolve_teacher(teacher, self.student, self._settings)
        self._augment = choose_augmentation(self._augment, resolved)
        if self._settings.alignment is not None and resolved is not None:
            if not isinstance(self.task, CausalLM):
                raise ArgumentError(
                    "alignment", f"is for causal language models, and task={self.task.name!r}. Leave it out."
                )
            resolved = reading_own_tokens(resolved, self._tokenizer_of_data(), self.teacher_tokenizer)
        compared = None if self._settings.alignment is not None else resolved
        self._shared_vocabulary = SharedVocabulary(
            self.student, compared, self._tokenizer_of_data(), self.teacher_tokenizer
        )
        self._teacher = None if resolved is None else resolved.to(self.args.device)
        if resolved is not None:
            self._prepare_loss()
        self._hidden_states = self._new_hidden_states()  # to say now what is wrong with it

    @property
    def augment(self) -> Augment | None:
        """Return what changes a batch before both models see it. What is set here must fit the teacher."""
        return self._augment

    @augment.setter
    def augment(self, augment: Augment | None) -> None:
        self._augment = choose_augmentation(augment, self._teacher)

    @property
    def task(self) -> Task:
        """Return how outputs meet targets. A name can be set here as well."""
        return self._task

    @task.setter
    def task(self, task: str | Task) -> None:
        self._task = resolve_task(task, self.student)
        self.objective = self._settings.objective(self._task.family)
        self._prepare_loss()

    def call_model_init(self, trial: Any = None) -> Any:
        """Return a new student from ``model_init``, which must not share parameters with the teacher."""
        student = super().call_model_init(trial)
        check_separate(self._teacher, student)
        return student

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the Trainer's loader, without the columns that neither model takes."""
        column, given = self._label_column(), self.data_collator
        if self.args.remove_unused_columns:
            dataset = drop_unused_columns(
                dataset, self.student, self.teacher, also_kept=[] if column is None else [column]
            )
        self._teacher_only |= teacher_only_columns(dataset, self.student, self.teacher)
        self.data_collator = Collate(
            given, label_column=column, ignore_index=self._settings.ignore_index, dtype=floating_dtype(self.student)
        )
        try:
            return super()._get_dataloader(dataset, *args, **kwargs)
        finally:
            self.data_collator = given

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset  # the Trainer would drop what only the teacher takes

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        return data_collator

    def _tokenizer_of_data(self) -> Any:
        """Return the tokenizer that made the token ids of the data, where it is known."""
        if tokens_of(self.processing_class) is not None:
            return self.processing_class
        return getattr(self.train_dataset, "tokenizer", None)

    def _label_column(self) -> str | None:
        """Return the name of the column of labels, if ``args`` names one."""
        names = self.args.label_names or []
        if len(names) > 1:
            raise ArgumentError("label_names", f"expected the name of one column, got {names}.")
        return names[0] if names else None

    def _student_inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch without the entries that only the teacher reads, unless nothing else is in it."""
        if not self._teacher_only:
            return batch
        kept = {name: value for name, value in batch.items() if name not in self._teacher_only}
        return kept if set(kept) - NOT_MODEL_INPUTS else batch

    def _follow_arguments(self) -> None:
        """Bring the loss up to date with the arguments, which callbacks, searches and users change."""
        now, before = self._settings.loss_settings(), self._loss_settings
        if now == before:
            return
        policies = [isinstance(settings["temperature"], Mapping | Policy) for settings in (now, before)]
        if any(policies) and now["temperature"] != before["temperature"]:
            if self.is_in_train:
                raise ArgumentError(
                    "temperature", "a policy cannot be changed while training. Change it before train()."
                )
            self.policy = self._settings.policy()
        self.objective, self._loss_settings = self._settings.objective(self.task.family), now
        check_teacher_given(self.teacher, self._settings)
        self._prepare_loss()

    def _prepare_loss(self) -> None:
        """Move the loss to the training device, and bring the teacher to its temperature."""
        check_teacher_fits(self._teacher, self.task, self._settings)
        self.objective.to(self.args.device)
        if self._teacher is not None and self.objective.alpha > 0:
            self._teacher = self._teacher.at_temperature(self._teacher_temperature())
        if self.policy is None or self.policy is self._prepared_policy:
            return
        self.policy.to(self.args.device)
        for parameter in self.policy.parameters():  # DDP does not know of them
            parameter.register_hook(lambda gradient: self._over_processes(gradient, "mean"))
        self._prepared_policy = self.policy

    def _teacher_temperature(self) -> float | None:
        """Return the T by which the loss divides the teacher's logits, or None if it changes from batch to batch."""
        both = self.objective.temperature
        temperature = both[0] if isinstance(both, tuple | list) else both
        several = isinstance(temperature, Tensor) and temperature.numel() > 1
        return None if self.policy is not None or several else float(temperature)

    def _learned_beside(self) -> dict[str, nn.Module]:
        """Return what the run learns beside the student, by the name of its file in a checkpoint."""
        parts = {POLICY_FILE: self.policy, PROJECTOR_FILE: self._projector, HIDDEN_FILE: self._hidden_states}
        return {name: part for name, part in parts.items() if part is not None}

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the Trainer's optimiser, which also trains a learned temperature and the projector of embeddings."""
        existed = self.optimizer is not None
        optimizer = super().create_optimizer(*([] if model is None else [model]))
        if existed:
            return optimizer
        learned = [] if self.policy is None else list(self.policy.parameters())
        if learned:
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        self._projector = self._new_projector()
        self._hidden_states = self._new_hidden_states()
        beside = (self._projector, self._hidden_states)
        projected = [weight for part in beside if part is not None for weight in part.parameters()]
        if projected:
            optimizer.add_param_group({"params": projected, "weight_decay": self.args.weight_decay})
        return optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        for name, part in self._learned_beside().items() if self.args.should_save else ():
            save_beside(part, output_dir, name)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        for name, part in self._learned_beside().items() if checkpoint is not None else ():
            load_beside(part, cast(str, checkpoint), name)

    def _new_projector(self) -> nn.Linear | None:
        """Return a linear map from the student's embeddings to those of the teacher; None if their widths are the same.

        Its weights are those that ``torch.nn.Linear`` draws after ``torch.manual_seed(args.seed)``.
        """
        if self.task.family != "embedding" or self.teacher is None:
            return None
        was_training = self.student.training
        with torch.no_grad(), torch.random.fork_rng():
            batch = cast(dict[str, Any], self._prepare_inputs(next(iter(self.get_train_dataloader()))))
            batch = batch if self.augment is None else self.augment(batch)
            student = forward_logits(self.student.eval(), self._student_inputs(batch))
            teacher = cast(Tensor, self._teacher_targets(batch))
        self.student.train(was_training)
        if student.shape[-1] == teacher.shape[-1]:
            return None
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            projector = nn.Linear(student.shape[-1], teacher.shape[-1])
        projector.to(self.args.device, floating_dtype(self.student))
        self._share_gradients(projector)
        return projector

    def _share_gradients(self, part: nn.Module) -> None:
        """Have each process train a part that DDP does not know of with the mean of all gradients."""
        for parameter in part.parameters():
            parameter.register_hook(lambda gradient: self._over_processes(gradient, "mean"))

    def _new_hidden_states(self) -> HiddenStates | None:
        """Return the term of hidden states that the arguments ask for, for the student as it is now; else None."""
        if self.teacher is None or self._settings.hidden is None:
            return None
        made = hidden_states_of(self._settings, self.student, self.teacher, self.task).to(self.args.device)
        self._share_gradients(made)
        return made

    def _completed(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with the inputs that the task makes from its labels, for the student and the teacher alike."""
        return self.task.complete(batch, (self.student, *(() if self.teacher is None else self.teacher.models)))

    def _targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the labels of a batch and the positions that count in its loss."""
        targets = self.task.targets(batch)
        if self.objective.alpha == 0 and targets.labels is not None:
            # Without a soft term an unlabelled position teaches nothing. If it counted, it would shrink the mean.
            return Targets(targets.labels, targets.mask & self.task.labelled(targets.labels))
        return targets

    def _mixed(self, targets: Targets, batch: Mapping[str, Any], logits: Tensor) -> Targets:
        """Return the targets of a batch of mixed examples, as mixup and cutmix make them; else the targets as they are."""
        if "mixup_weight" not in batch or targets.labels is None:
            return targets
        others = self.task.targets({**batch, "labels": batch["mixup_labels"]}).labels
        assert others is not None
        return Targets(mixed_labels(targets.labels, others, batch["mixup_weight"], logits, targets.mask), targets.mask)

    def _count(self, batches: list[Mapping[str, Any]]) -> Tensor:
        """Return the number of positions that count in some batches, and say it once if it is 0."""
        counts = [self._targets(batch).mask.sum() for batch in batches]
        counted = torch.stack(counts).sum() if len(counts) > 1 else counts[0] if counts else torch.tensor(0)
        # Without a soft term a batch out of a transfer set may have no label. To read the number on a device would make the
        # processor wait; the loader gives batches on the CPU before they are moved.
        is_wrong = batches and self.objective.alpha > 0 and counted.device.type == "cpu" and not counted
        if is_wrong and not self._said_that_nothing_counts:
            self._said_that_nothing_counts = True
            warnings.warn(
                f"No position of the batch of step {self.state.global_step + 1} counts in the loss: every label is "
                f"{IGNORE_INDEX}, or the mask is False everywhere. Such a step teaches nothing. Check the labels and the "
                "collator. This is said once.",
                UserWarning,
                stacklevel=stacklevel_of_user(),
            )
        return counted

    def _over_processes(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        """Return the sum or the mean of a tensor over all processes."""
        if self.accelerator.num_processes == 1:  # the call takes its time in every step
            return tensor
        return cast(Tensor, self.accelerator.reduce(tensor, reduction))

    def _teacher_targets(self, batch: Mapping[str, Any]) -> Tensor | SparseTargets | None:
        """Return the teacher's logits or sparse targets at the positions that have a target."""
        if self.teacher is None:
            return None
        output = self.teacher(batch)
        if output.targets is not None:
            return self.task.align_targets(output.targets)
        assert output.logits is not None
        return self.task.align(self.task.fit(output.logits, batch, "teacher"))

    def _on_shared_columns(
        self, logits: Tensor, teacher: Tensor | SparseTargets | None
    ) -> tuple[Tensor, Tensor | SparseTargets | None]:
        """Return both without the columns that only one of two language models has, which pad its vocabulary."""
        shared = self._shared_vocabulary
        is_aligned = self._settings.alignment is not None
        if teacher is None or is_aligned or not (shared.predicts_tokens or self.task.unit == "token"):
            return logits, teacher
        return shared.cut(logits, teacher)

    def _loss_parts(
        self,
        logits: Tensor,
        teacher: Tensor | SparseTargets | None,
        targets: Targets,
        num_items: Tensor | int | None,
    ) -> LossParts:
        """Return the loss of the aligned logits with its terms."""
        softening = self._softening(logits, teacher, targets)
        return self.objective.parts(
            logits, teacher, targets.labels, mask=targets.mask, num_items=num_items, **softening
        )

    def _parts_of_heads(self, logits: Tensor, *others: Any) -> LossParts:
        """Return the loss of a student with two heads (Touvron et al., 2021): the first has the labels, the second the teacher.

        Args:
            logits: (2, ..., V), aligned.
            *others: what ``_loss_parts`` takes after the logits.
        """
        first, second = logits
        soft = self._loss_parts(second, *others).soft
        self._policy_moves = False  # a running T has taken its step
        hard, alpha = self._loss_parts(first, *others).hard, self.objective.alpha
        assert soft is not None
        assert hard is not None
        return LossParts(alpha * soft + (1 - alpha) * hard, soft, hard)

    def _softening(self, logits: Tensor, teacher: Tensor | SparseTargets | None, targets: Targets) -> dict[str, Any]:
        """Return the policy's temperature and scale for these logits as the loss takes them; empty without a policy."""
        if self.policy is None or teacher is None:
            return {}
        known = teacher if isinstance(teacher, Tensor) else None
        progress = self.state.global_step / max(1, self.state.max_steps)
        self.policy.train(self._policy_moves)  # a running T takes one step in each of the run's
        labels = targets.labels
        if labels is not None and self.task.family == "softmax":
            labels = most_likely_classes(labels)
        softening = self.policy(logits, known, labels, progress, mask=targets.mask)
        if self._policy_moves:
            for running in self.policy.buffers():  # each process has seen its own part of the batch
                running.copy_(self._over_processes(running, "mean"))
        return {"temperature": softening.temperature, "scale": softening.scale}
