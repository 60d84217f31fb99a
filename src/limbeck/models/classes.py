"""The classes that a model's output columns stand for, and a model with its columns in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.models.forward import class_axis, only_logits_of, underlying
from limbeck.models.probabilities import LogProbabilities
from limbeck.outputs import ClassNames


def class_names_in_config(model: nn.Module, source: str = "the model") -> ClassNames | None:
    """Return the class names that a model's config has, as that of every Hugging Face classifier, or that it has itself.

    Args:
        model: any module; wrappers around it are looked through. A config with ``id2label`` or a tuple
            ``class_names`` is read.
        source: what the model is called in messages.

    Returns:
        The names in the order of the columns, or None if there is no such config or its ids are not 0, 1, and so on.

    Raises:
        ArgumentError: a name stands for several classes.
    """
    if isinstance(model, SelectedColumns):
        inner = class_names_in_config(model.model, source)
        return inner and ClassNames(tuple(inner.names[column] for column in model.columns.tolist()), source)
    if isinstance(model, LogProbabilities):
        return class_names_in_config(model.model, source)
    own = getattr(underlying(model), "class_names", None)
    if isinstance(own, tuple):  # an estimator of scikit-learn
        return ClassNames(own, source, numbers_allowed=True)
    id2label = getattr(getattr(underlying(model), "config", None), "id2label", None)
    if not isinstance(id2label, Mapping) or sorted(id2label) != list(range(len(id2label))):
        return None
    return ClassNames(tuple(str(id2label[i]) for i in range(len(id2label))), source)


class SelectedColumns(nn.Module):
    """A model that gives some of another model's output columns, in a chosen order.

    Args:
        model: a module that ``forward_logits`` can call.
        columns: the columns to keep, in the order that they should have.

    Example:
        >>> model = SelectedColumns(torch.nn.Identity(), [2, 0])
        >>> model(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[3., 1.]])
    """

    columns: Tensor

    def __init__(self, model: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("columns", torch.tensor(list(columns), dtype=torch.long), persistent=False)
        self.train(model.training)

    def get_base_model(self) -> nn.Module:
        """Return the other model, whose ``forward`` says what this one takes."""
        return self.model

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        logits = only_logits_of(self.model(*inputs, **named), self.model)
        return logits.index_select(class_axis(logits), self.columns)
