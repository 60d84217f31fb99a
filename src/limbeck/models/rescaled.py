"""A model whose numbers are given in another unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.models.forward import only_logits_of


class RescaledOutputs(nn.Module):
    """A model that gives another model's outputs times ``scale`` plus ``shift``, each with its own.

    Args:
        model: a module that ``forward_logits`` can call.
        scale: one number for each output.
        shift: one number for each output.

    Example:
        >>> RescaledOutputs(torch.nn.Identity(), scale=[1.8], shift=[32.0])(torch.tensor([[100.0]]))
        tensor([[212.]])
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("scale", torch.tensor(list(scale)))
        self.register_buffer("shift", torch.tensor(list(shift)))
        self.train(model.training)

    def get_base_model(self) -> nn.Module:
        """Return the other model, whose ``forward`` says what this one takes."""
        return self.model

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        outputs = only_logits_of(self.model(*inputs, **named), self.model)
        outputs = outputs.unsqueeze(-1) if outputs.dim() == 1 else outputs
        return outputs * self.scale + self.shift
