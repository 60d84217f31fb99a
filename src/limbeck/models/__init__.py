"""The networks: ``networks`` has the small built-in ones, ``loading`` finds, saves and loads models by name,
``calling`` turns a batch into logits whatever the model."""

from limbeck.models.forward import count_parameters, first_input, floating_dtype, forward_logits, freeze
from limbeck.models.loading import BUILT_IN, DataShape, ModelConfig, build_model, load_model, save_model
from limbeck.models.networks import CNN, MLP, ResNet

__all__ = [
    "BUILT_IN",
    "CNN",
    "MLP",
    "DataShape",
    "ModelConfig",
    "ResNet",
    "build_model",
    "count_parameters",
    "first_input",
    "floating_dtype",
    "forward_logits",
    "freeze",
    "load_model",
    "save_model",
]
