"""Small networks for images, with sizes as settings. Each maps pixel values (N, C, H, W) to logits (N, classes)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """A multilayer perceptron on the flattened image: Linear, ReLU, ..., Linear.

    It is an ``nn.Sequential`` with nothing added, so its weights load into one that is written by hand.

    Args:
        inputs: C * H * W.
        classes: number of classes.
        hidden: units of each hidden layer.

    Example:
        >>> MLP(inputs=64, classes=10, hidden=[32])
        MLP(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=64, out_features=32, bias=True)
          (2): ReLU()
          (3): Linear(in_features=32, out_features=10, bias=True)
        )
    """

    def __init__(self, inputs: int, classes: int, hidden: Sequence[int] = (64,)) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for units in hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        super().__init__(*layers, nn.Linear(inputs, classes))


class CNN(nn.Module):
    """Two stages of two 3 x 3 convolutions with batch normalisation, each halving the image, then a hidden layer.

    Args:
        channels: C of the image.
        size: H = W of the image, divisible by 4.
        classes: number of classes.
        width: filters of the first stage; the second has twice as many.
        hidden: units of the layer before the logits.
        dropout: probability of dropping a hidden unit in training.
    """

    def __init__(
        self, channels: int, size: int, classes: int, width: int = 32, hidden: int = 128, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(channels, width),
            _convolution(width, width),
            nn.MaxPool2d(2),
            _convolution(width, 2 * width),
            _convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * (size // 4) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.features(pixel_values))


class ResNet(nn.Module):
    """A small residual network for small images (He et al., 2015, section 4.2): three stages, 6 * blocks + 2 layers.

    Args:
        channels: C of the image.
        classes: number of classes.
        width: filters of the first stage; they double at each of the two others.
        blocks: residual blocks in each stage.
    """

    def __init__(self, channels: int, classes: int, width: int = 16, blocks: int = 1) -> None:
        super().__init__()
        self.stem = _convolution(channels, width)
        stages: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            for block in range(blocks):
                outputs = width * 2**stage
                stages.append(_Residual(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(pixel_values)).mean((-2, -1)))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, outputs, stride),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
