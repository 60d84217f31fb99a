"""Models of sentence-transformers, which make one embedding of a text. They load and save themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from limbeck.errors import ModelError

MODULES = "modules.json"
"""The file in the folder of such a model that names its parts."""


def is_sentence_model(model: object) -> bool:
    """Return True if a model is a ``SentenceTransformer``.

    Args:
        model: anything. The package need not be installed.
    """
    return any(
        base.__name__ == "SentenceTransformer" and base.__module__.startswith("sentence_transformers.")
        for base in type(model).__mro__
    )


def names_sentence_model(name: str) -> bool:
    """Return True if a name stands for a ``SentenceTransformer``: a folder with ``modules.json``, or sentence-transformers/...

    Args:
        name: a folder or a Hugging Face id.
    """
    return (Path(name) / MODULES).is_file() or (name.startswith("sentence-transformers/") and not Path(name).exists())


def load_sentence_model(name: str) -> nn.Module:
    """Load a model of sentence-transformers. No code that comes with it is run, and no pickle is read.

    Args:
        name: a folder or a Hugging Face id.

    Returns:
        The model, on the CPU and in evaluation mode.

    Raises:
        ModelError: there is no such model, or it is damaged.
    """
    from sentence_transformers import SentenceTransformer

    settings: dict[str, Any] = {"trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
    try:
        return SentenceTransformer(name, device="cpu", **settings).eval()
    except Exception as error:  # each of its parts raises what it likes
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"model {name!r}: sentence-transformers cannot load it ({reason}).") from error
