"""``limbeck predict`` with a language model: texts continued by a run's student, and by its teacher beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.config import Config
from limbeck.data import Preprocessing
from limbeck.errors import ConfigError, DataError, ModelError
from limbeck.models import load_model
from limbeck.models.forward import underlying
from limbeck.models.loading import DataShape, is_function, load_trained_model
from limbeck.run.folder import TEACHER
from limbeck.tasks import CausalLM

MAX_NEW_TOKENS = 64
"""The tokens that are written, at most, where the user does not say."""
PROMPTS = 16
"""The prompts that are continued at once."""


def load_teacher_of_run(config: Config, folder: Path, functions: Sequence[str]) -> nn.Module:
    """Load the language model that taught a run's student.

    Args:
        config: the run's config.
        folder: its folder.
        functions: names ``package.module:function`` that may be called.

    Returns:
        The teacher, in evaluation mode.

    Raises:
        ConfigError: the run has no single model as its teacher.
        ModelError: it cannot be loaded, or calls a function that ``functions`` does not name.
    """
    if (folder / TEACHER).is_dir():
        return load_model(folder / TEACHER, model=functions)
    name = config.teacher.model
    if not name:
        raise ConfigError("--with-teacher: the run's teacher is a store or several models. Leave the option out.")
    if is_function(name) and name not in functions:
        raise ModelError(f"{folder}: its teacher calls {name}. If you trust it: --function {name}")
    return load_trained_model(config.teacher, DataShape(0), head=CausalLM.head)


@torch.no_grad()
def complete(model: nn.Module, read: Preprocessing, prompts: Sequence[Any], max_new_tokens: int) -> list[str]:
    """Continue texts with the likeliest token at each step, at T = 1.

    Args:
        model: a causal language model of Transformers.
        read: its tokenizer, and whether texts are messages of a user.
        prompts: texts; or chats, lists of messages with ``role`` and ``content``.
        max_new_tokens: the tokens that are written, at most. The token for the end of a text ends it earlier.

    Returns:
        What follows each prompt.

    Raises:
        ModelError: the model cannot write texts.
        DataError: a prompt is neither a text nor a chat, or is empty.
    """
    if not callable(getattr(underlying(model), "generate", None)):
        raise ModelError(
            f"{type(model).__name__} has no generate(), as the models of Transformers have, so it writes no text."
        )
    encoded = [_encode(read, prompt) for prompt in prompts]
    tokenizer, longest = read.tokenizer, max(map(len, encoded))
    padding = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
    device = next(model.parameters()).device
    written: Any = model.eval().generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=max_new_tokens, do_sample=False,
        temperature=None, top_p=None, top_k=None, use_cache=True, pad_token_id=padding, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return [tokenizer.decode(row[longest:], skip_special_tokens=True) for row in written]


def _encode(read: Preprocessing, prompt: Any) -> list[int]:
    """Return the tokens of a prompt, without one for the end of the text."""
    tokenizer = read.tokenizer
    if read.chat or isinstance(prompt, list):
        chat = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    if not isinstance(prompt, str):
        raise DataError(f"expected a text or a chat, got {prompt!r}.")
    tokens = tokenizer(prompt)["input_ids"]
    tokens = tokens[:-1] if tokens[-1:] == [tokenizer.eos_token_id] else tokens
    if not tokens:
        raise DataError("a prompt needs at least one token.")
    return tokens
