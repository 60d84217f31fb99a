"""What other libraries offer for the same job, called as their users would; each is None where it is not installed.

    pip install --no-deps liger-kernel==0.8.5 trl==1.16.0 torchtune==0.6.1

They differ in what they compute: none multiplies by T², TRL and torchtune have no hard labels. The benchmarks give each the
nearest job that it has and say so in its name.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def torchtune_losses() -> ModuleType | None:
    """torchtune's ``kd_losses.py`` by itself: it needs torch alone, where the package around it needs much more."""
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
    """Liger's chunked distillation loss: weight_hard CE + weight_soft JSD(beta), the projection included."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    return LigerFusedLinearJSDLoss


def trl_divergence() -> Any:
    """TRL's chunked divergence, the projection included: (hidden states, weights, biases, beta, T) -> per token."""
    if importlib.util.find_spec("trl") is None:
        return None
    try:
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction
    except ImportError:
        return None
    return ChunkedDivergenceFunction


def trl_gkd() -> Any:
    """TRL's trainer for generalised knowledge distillation, whose loss on logits is a static method."""
    if importlib.util.find_spec("trl") is None:
        return None
    try:
        from trl.experimental.gkd.gkd_trainer import GKDTrainer
    except ImportError:
        return None
    return GKDTrainer
