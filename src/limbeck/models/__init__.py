"""Models: the built-in networks, models by name, and the step from a batch to logits.

This room may import ``losses``, ``outputs`` and the top-level modules (``errors``, ``atomic_files``, ``field_checks``). Its
files: ``networks`` has the built-in networks, ``loading`` builds, saves and loads models by name, ``names`` says what is wrong
with a name or its settings, ``functions`` imports functions of the user's own, ``hugging_face`` and ``libraries`` build and
load those of Transformers, timm and torchvision, ``sentences`` loads those of sentence-transformers, ``input_format`` says
what images they were trained on, ``forward`` turns a batch into logits whatever the model, ``classes`` and ``probabilities``
wrap a model whose columns stand in another order or that gives probabilities, ``rescaled`` one whose numbers have another
unit, ``retokenised`` one that reads other tokens than the student, ``estimators`` wraps one of scikit-learn, ``onnx_files``
runs an ONNX file, ``tokens`` finds the tokens of a language model, ``heads`` its last layer, ``hidden_term``
says how hidden states are compared, and ``shrink`` and ``kept_tokens`` make students of some of its layers and tokens.
"""

from limbeck.models.classes import SelectedColumns, class_names_in_config
from limbeck.models.estimators import EstimatorModel, is_estimator, load_estimator
from limbeck.models.forward import count_parameters, first_input, floating_dtype, forward_logits, freeze
from limbeck.models.input_format import InputFormat, input_format_of
from limbeck.models.loading import (
    DataShape,
    ModelConfig,
    build_model,
    functions_of,
    load_model,
    load_trained_model,
    save_model,
)
from limbeck.models.names import model_faults
from limbeck.models.networks import BUILT_IN, CNN, MLP, ResNet
from limbeck.models.onnx_files import OnnxModel, load_onnx
from limbeck.models.probabilities import LogProbabilities, logits_of_probabilities
from limbeck.models.rescaled import RescaledOutputs
from limbeck.models.retokenised import Retokenised
from limbeck.models.sentences import is_sentence_model
from limbeck.models.tokens import saved_tokenizer, saved_tokens, token_columns, tokens_of

__all__ = [
    "BUILT_IN",
    "CNN",
    "MLP",
    "DataShape",
    "EstimatorModel",
    "InputFormat",
    "LogProbabilities",
    "ModelConfig",
    "OnnxModel",
    "ResNet",
    "RescaledOutputs",
    "Retokenised",
    "SelectedColumns",
    "build_model",
    "class_names_in_config",
    "count_parameters",
    "first_input",
    "floating_dtype",
    "forward_logits",
    "freeze",
    "functions_of",
    "input_format_of",
    "is_estimator",
    "is_sentence_model",
    "load_estimator",
    "load_model",
    "load_onnx",
    "load_trained_model",
    "logits_of_probabilities",
    "model_faults",
    "save_model",
    "saved_tokenizer",
    "saved_tokens",
    "token_columns",
    "tokens_of",
]
