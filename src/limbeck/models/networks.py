"""The built-in networks: small ones for images, and ``mlp`` for tables too.

Images are pixel values (N, C, H, W); the rows of a table are values (N, F). Logits are (N, classes); those of ``unet`` and
``fcn``, which give a class to each pixel, (N, classes, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """A multilayer perceptron on the flattened image, or on the row of a table: Linear, ReLU, ..., Linear.

    It is an ``nn.Sequential`` with nothing added, so its weights can be loaded into one that is written by hand.

    Args:
        inputs: the number of values of an image, C * H * W, or of a row.
        classes: the number of classes.
        hidden: the number of units of each hidden layer.

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
    """A convolutional network: two stages of two 3 x 3 convolutions with batch normalisation, then a hidden layer.

    Each stage ends with a pooling that halves the height and width.

    Args:
        channels: the channels of the image, C.
        size: the height and width of the image in pixels, divisible by 4.
        classes: the number of classes.
        width: the number of filters of the first stage; the second stage has twice as many.
        hidden: the number of units of the hidden layer.
        dropout: the probability that a hidden unit is dropped in training.
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
    """A residual network for small images of any size (He et al., 2015, section 4.2).

    It has three stages and 6 * blocks + 2 layers. The second and third stage halve the height and width.

    Args:
        channels: the channels of the image, C.
        classes: the number of classes.
        width: the number of filters of the first stage; each later stage has twice as many as the one before.
        blocks: the number of residual blocks of each stage.
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
    """Two 3 x 3 convolutions, whose output is added to the input."""

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


class FCN(nn.Sequential):
    """A fully convolutional network with a class for each pixel: convolutions that keep the height and width.

    Args:
        channels: the channels of the image, C.
        classes: the number of classes.
        width: the number of filters of each hidden layer.
        layers: the number of convolutions; the last one gives the logits.
        kernel: the side of each convolution in pixels, an odd number.
    """

    def __init__(self, channels: int, classes: int, width: int = 8, layers: int = 3, kernel: int = 3) -> None:
        hidden = [_convolution(width if layer else channels, width, side=kernel) for layer in range(layers - 1)]
        super().__init__(*hidden, nn.Conv2d(width if hidden else channels, classes, kernel, padding=kernel // 2))


class UNet(nn.Module):
    """A U-Net with a class for each pixel (Ronneberger et al., 2015), for images of any size.

    Each stage has two 3 x 3 convolutions with batch normalisation. On the way down a pooling halves the height and width after
    each stage; on the way up the features are enlarged and joined with those of the same stage on the way down.

    Args:
        channels: the channels of the image, C.
        classes: the number of classes.
        width: the number of filters of the first stage; each later stage has twice as many as the one before.
        depth: the number of poolings.
    """

    def __init__(self, channels: int, classes: int, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(depth + 1)]
        self.down = nn.ModuleList(map(_stage, [channels, *widths[:-1]], widths))
        self.up = nn.ModuleList(_stage(widths[i] + widths[i + 1], widths[i]) for i in reversed(range(depth)))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x, kept = self.down[0](pixel_values), list[Tensor]()
        for stage in self.down[1:]:
            kept.append(x)
            x = stage(nn.functional.max_pool2d(x, 2, ceil_mode=True))
        for stage in self.up:
            same = kept.pop()
            x = stage(torch.cat([same, nn.functional.interpolate(x, size=same.shape[-2:])], dim=1))
        return self.head(x)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions."""
    return nn.Sequential(_convolution(inputs, outputs), _convolution(outputs, outputs))


def _convolution(inputs: int, outputs: int, stride: int = 1, side: int = 3) -> nn.Sequential:
    """Return a convolution of 3 x 3, or of another side, with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


BUILT_IN: dict[str, type[nn.Module]] = {"mlp": MLP, "cnn": CNN, "resnet": ResNet, "unet": UNet, "fcn": FCN}
"""The networks by the names that a config gives them."""
