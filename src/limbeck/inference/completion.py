"""Texts continued, answered or filled in by a language model: by a run's student, or by its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.config import Config
from limbeck.data import Preprocessing
from limbeck.data.token_rows import pad_rows
from limbeck.errors import ConfigError, DataError, ModelError
from limbeck.models import forward_logits, load_model
from limbeck.models.forward import underlying
from limbeck.models.loading import DataShape, is_function, load_trained_model
from limbeck.run.folder import TEACHER
from limbeck.tasks import EncoderDecoder, MaskedLM, Task

MAX_NEW_TOKENS = 64
"""The tokens that are written, at most, where the user does not say."""
TOLD_TOKENS = 5
"""The likeliest tokens that are told for a mask."""
LIKELIEST: dict[str, Any] = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": None,
}  # fmt: skip
"""The settings of ``generate`` that keep the likeliest token, whatever a model's ``generation_config`` says."""
PROMPTS = 16
"""The prompts that are continued at once."""


def load_teacher_of_run(config: Config, folder: Path, functions: Sequence[str], task: Task) -> nn.Module:
    """Load the language model that taught a run's student.

    Args:
        config: the run's config.
        folder: its folder.
        functions: names ``package.module:function`` that may be called.
        task: what the student was trained for.

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
    return load_trained_model(config.teacher, DataShape(0), head=task.head)


@torch.no_grad()
def complete(model: nn.Module, read: Preprocessing, prompts: Sequence[Any], max_new_tokens: int) -> list[str]:
    """Continue texts with the likeliest token at each step, at T = 1; or write what follows from them with a decoder.

    Args:
        model: a causal language model of Transformers, or one with an encoder and a decoder.
        read: its tokenizer, and whether texts are messages of a user.
        prompts: texts; or chats, lists of messages with ``role`` and ``content``.
        max_new_tokens: the tokens that are written, at most. The token for the end of a text ends it earlier.

    Returns:
        What the model wrote for each prompt.

    Raises:
        ModelError: the model cannot write texts.
        DataError: a prompt is neither a text nor a chat, or is empty.
    """
    if not callable(getattr(underlying(model), "generate", None)):
        raise ModelError(
            f"{type(model).__name__} has no generate(), as the models of Transformers have, so it writes no text."
        )
    is_answer, tokenizer = read.task == EncoderDecoder.name, read.tokenizer
    encoded = [_encode_source(read, prompt) if is_answer else _encode(read, prompt) for prompt in prompts]
    padding = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    side = "right" if is_answer else "left"  # what is written stands right of the prompt, or in the decoder
    ids, mask = pad_rows(encoded, padding, side), pad_rows([[1] * len(row) for row in encoded], 0, side)
    begin, device = 0 if is_answer else ids.shape[1], next(model.parameters()).device
    written: Any = model.eval().generate(  # pyright: ignore[reportCallIssue]
        input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=max_new_tokens, do_sample=False,
        num_beams=1, temperature=None, top_p=None, top_k=None, use_cache=True, pad_token_id=padding,
        eos_token_id=tokenizer.eos_token_id, **LIKELIEST,
    )  # fmt: skip
    return [tokenizer.decode(row[begin:], skip_special_tokens=True) for row in written]


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


def _encode_source(read: Preprocessing, text: Any) -> list[int]:
    """Return the tokens that an encoder reads, cut as in training."""
    if not isinstance(text, str):
        raise DataError(f"expected a text, got {text!r}.")
    return read.tokenizer(text, truncation=True, max_length=read.max_length)["input_ids"]


@torch.no_grad()
def fill(model: nn.Module, read: Preprocessing, text: Any) -> list[dict[str, float]]:
    """Return the likeliest tokens for each mask of a text, with their probabilities at T = 1.

    Args:
        model: a masked language model.
        read: its tokenizer.
        text: a text with at least one mask token.

    Raises:
        DataError: the input is no text, or has no mask token.
    """
    tokenizer, ids = read.tokenizer, _encode_source(read, text)
    places = [place for place, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if not places:
        raise DataError(
            f"no {tokenizer.mask_token} in the first {read.max_length} tokens. Put one where a token is missing."
        )
    batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    device = next(model.parameters()).device
    logits = forward_logits(model.eval(), {name: value.to(device) for name, value in batch.items()})[0, places]
    found = MaskedLM().probabilities(logits.float()).topk(min(TOLD_TOKENS, logits.shape[-1]))
    rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return [dict(zip(map(tokenizer.decode, ([i] for i in tokens)), shares, strict=True)) for tokens, shares in rows]
