"""The term that brings hidden states of a student close to those of its teacher, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from limbeck.errors import ArgumentError, ModelError
from limbeck.models import Retokenised, floating_dtype
from limbeck.models.forward import underlying
from limbeck.models.hidden_term import HiddenTerm, even_layers
from limbeck.models.shrink import layers_of
from limbeck.tasks import Task
from limbeck.teachers import Teacher
from limbeck.training.arguments import DistillationArguments
from limbeck.training.teacher import check_runs_one_model


class HiddenStates(nn.Module):
    """The term of hidden states, with a linear map from the student's width to the teacher's where they differ.

    The map is trained with the student and belongs to the run; the student is saved without it.

    Args:
        settings: which layers, and how they are compared.
        student: the model that is trained.
        teacher: its teacher.
        seed: draws the weights of the linear maps.

    Raises:
        ArgumentError: the layers of a model are not found, or a layer is named that the teacher has not.
    """

    def __init__(self, settings: HiddenTerm, student: nn.Module, teacher: nn.Module, seed: int) -> None:
        super().__init__()
        self.settings = settings
        try:
            ours, theirs = (list(layers_of(underlying(model))) for model in (student, teacher))
        except ModelError as error:
            raise ArgumentError("hidden", f"compares the layers of two language models. {error}") from None
        chosen = even_layers(len(ours), len(theirs)) if settings.layers is None else settings.layers
        if len(chosen) != len(ours) or max(chosen) >= len(theirs):
            raise ArgumentError(
                "hidden",
                f"layers names one of the teacher's {len(theirs)} layers, from 0 on, for each of the student's {len(ours)}, "
                f"got {chosen}.",
            )
        # In a tuple, so that these layers are no part of this module.
        self._layers = tuple(ours), tuple(theirs[i] for i in chosen)
        self._states: tuple[list[Tensor], list[Tensor]] = [], []
        widths = [_width(model) for model in (student, teacher)]
        self.projectors = nn.ModuleList()
        if widths[0] != widths[1]:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self.projectors.extend(nn.Linear(*widths, bias=False) for _ in ours)
        self.to(floating_dtype(student))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the layers return while the block runs; of several calls the last."""
        self._states = [torch.empty(0)] * len(self._layers[0]), [torch.empty(0)] * len(self._layers[1])
        with ExitStack() as hooks:
            for layers, states in zip(self._layers, self._states, strict=True):
                for i, layer in enumerate(layers):
                    hooks.enter_context(layer.register_forward_hook(_keeping(states, i)))
            yield

    def forward(self, align: Callable[[Tensor], Tensor], mask: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Return the weighted mean over layers and positions of the distance of the states that were recorded last.

        Args:
            align: the task's, which leaves out positions without a target.
            mask: bool (...,), True at the positions that count.
            num_items: the mean's denominator over positions; None for those of ``mask``.
        """
        rows = []
        for i, (ours, theirs) in enumerate(zip(*self._states, strict=True)):
            ours = self.projectors[i](ours) if self.projectors else ours
            ours, theirs = align(ours)[mask].float(), align(theirs.detach()).to(ours.device)[mask].float()
            is_mse = self.settings.distance == "mse"
            rows.append((ours - theirs).square().mean(-1) if is_mse else 1 - cosine_similarity(ours, theirs, -1))
        self._states = [], []
        count = mask.sum().clamp(min=1) if num_items is None else num_items
        return self.settings.weight * torch.stack(rows).mean(0).sum() / count


def hidden_states_of(args: DistillationArguments, student: nn.Module, teacher: Teacher, task: Task) -> HiddenStates:
    """Return the term of hidden states that a run's arguments ask for.

    Args:
        args: the arguments, with a ``hidden_term``.
        student: the model that is trained.
        teacher: its teacher.
        task: that of both.

    Raises:
        ArgumentError: the teacher is not one live model, both are no language models, or the layers do not fit.
    """
    assert args.hidden_term is not None
    check_runs_one_model(teacher, "hidden")
    if task.unit != "token" or isinstance(teacher.models[0], Retokenised):
        raise ArgumentError("hidden", "compares what two language models make of the same tokens. Leave it out here.")
    return HiddenStates(args.hidden_term, student, teacher.models[0], args.seed)


def _keeping(states: list[Tensor], i: int) -> Callable[..., None]:
    def keep(_layer: nn.Module, _inputs: Sequence[Any], output: Any) -> None:
        states[i] = output if isinstance(output, Tensor) else output[0]

    return keep


def _width(model: nn.Module) -> int:
    config: Any = getattr(underlying(model), "config", None)
    return config.get_text_config().hidden_size
