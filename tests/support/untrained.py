"""The folder of a run on digits, whose student was never trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.data import Preprocessing
from limbeck.data.images import ImageFormat
from limbeck.models import DataShape, ModelConfig, build_model, save_model

CONFIG = "data: {name: digits}\nteacher: {model: mlp, training: {max_steps: 1}}\nstudent: {model: MODEL}\n"
SHAPE = DataShape(10, (1, 8, 8))


def write_run(folder: Path, model: str = "mlp", settings: dict[str, list[int]] | None = None) -> nn.Module:
    """Write the folder of a run as if it were finished, and return its student."""
    config = ModelConfig(model, settings or {})
    torch.manual_seed(0)
    student = build_model(config, SHAPE).eval()
    save_model(student, folder / "student", config, SHAPE)
    Preprocessing([str(i) for i in range(10)], ImageFormat((8, 8), 1)).save(folder / "student")
    (folder / "config.yaml").write_text(CONFIG.replace("MODEL", model))
    return student


class Softened(nn.Module):
    """A student whose forward still divides by the temperature that it was trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(pixel_values.flatten(1)) / 4


def softened() -> nn.Module:
    """Return such a student, as a config's ``model: support.untrained:softened`` does."""
    return Softened()
