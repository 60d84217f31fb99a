"""The distillation losses of other libraries, called as their users call them.

    pip install --no-deps liger-kernel==0.8.5 trl==1.16.0 torchtune==0.6.1

Each function returns None if its library is not installed. The libraries compute different things: none multiplies by T²,
and TRL and torchtune have no hard labels. The benchmarks give each library the nearest loss that it has, and say so in its
name.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def torchtune_losses() -> ModuleType | None:
    """Return torchtune's module ``kd_losses``, loaded without its package, which needs much more than torch."""
    package = importlib.util.find_spec("torchtune")
    if package is None or package.submodule_search_locations is None:
        return None
    path = Path(package.submodule_search_locations[0]) / "modules" / "loss" / "kd_losses.py"
    spec = importlib.util.spec_from_file_location("torchtune_kd_losses", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def liger_jsd() -> Any:
    """Return Liger's chunked loss class: weight_hard CE + weight_soft JSD(beta), with the projection inside."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    return LigerFusedLinearJSDLoss


def trl_divergence() -> Any:
    """Return TRL's chunked divergence of each token, which takes hidden states, weights, biases, beta and T."""
    if importlib.util.find_spec("trl") is None:
        return None
    try:
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction
    except ImportError:
        return None
    return ChunkedDivergenceFunction


def trl_gkd() -> Any:
    """Return TRL's trainer for generalised knowledge distillation, whose loss on logits is a static method."""
    if importlib.util.find_spec("trl") is None:
        return None
    try:
        from trl.experimental.gkd.gkd_trainer import GKDTrainer
    except ImportError:
        return None
    return GKDTrainer
