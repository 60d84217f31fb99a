"""The speed of a model is that of its forward passes."""

import time

import pytest
import torch
from torch import nn

from limbeck.data import Examples, TensorRows
from limbeck.evaluation import measure_speed


def test_a_slow_pass_is_in_the_p99_and_not_in_the_median():
    class Slow(nn.Module):
        calls = 0

        def forward(self, pixel_values):
            self.calls += 1
            time.sleep(0.2 if self.calls == 3 else 0.01)
            return pixel_values

    model = Slow()
    examples = Examples(TensorRows("pixel_values", torch.zeros(3, 2)), torch.zeros(3))
    found = measure_speed(model, examples, batch_size=4, seconds=0.3)
    assert (found.batch, found.passes) == (4, model.calls - 1)
    assert 10 <= found.median < 100 < found.p99
    assert found.throughput == pytest.approx(4000 / found.median)
