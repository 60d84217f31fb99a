"""A divergence with two parameters of its own, named unlike the built-in ones: kernels must hand on both, in order."""

from dataclasses import dataclass

import torch

from limbeck.losses.arithmetic import exp, expectation
from limbeck.losses.divergences import Divergence


@dataclass(frozen=True)
class Blend(Divergence):
    """w KL(p_t ‖ p_s) + (1 - w) e^power / 2 * sum (p_t - p_s)²."""

    w: float = 0.7
    power: float = -0.4

    def terms(self, a, b):
        p_s, p_t = a.exp(), b.exp()
        size = (1 - self.w) * torch.tensor(self.power, dtype=a.dtype).exp()
        return self.w * expectation(p_t, b - a) + size * (p_t - p_s) ** 2 / 2

    @staticmethod
    def terms_and_slopes(d, p_s, p_t, w, power):
        apart = p_t - p_s
        size = (1 - w) * exp(power + 0 * d)
        return w * p_t * d + size * apart * apart / 2, -w * p_t - size * apart * p_s
