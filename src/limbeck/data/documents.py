"""Documents of a language model: texts, pairs of prompt and completion, chats or tokens, each as its token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from limbeck.data.texts import CHUNK
from limbeck.errors import DataError
from limbeck.losses import IGNORE_INDEX

Span = tuple[int, int]
"""The first character of a part of a text, and the first one after it."""


@dataclass(frozen=True)
class Document:
    """One text as a language model reads it."""

    tokens: list[int]
    """The id of each token."""
    counted: list[bool]
    """For each token, whether predicting it counts in the loss. The first token of a document is never predicted."""


@dataclass(frozen=True)
class Encoded:
    """The documents of one split."""

    documents: list[Document]
    bytes_per_token: float | None = None
    """The mean length of a token in bytes of UTF-8; None where the texts are not known."""


def encode_texts(texts: Sequence[str], tokenizer: Any) -> Encoded:
    """Tokenise texts, of which every token counts. The end of a text is a token too, if the tokenizer has one for it.

    Args:
        texts: the texts.
        tokenizer: a fast tokenizer of Transformers.

    Returns:
        A document for each text.
    """
    documents = []
    for chunk in _chunks(texts):
        for tokens in tokenizer(chunk, return_attention_mask=False)["input_ids"]:
            whole = _with_end(tokens, tokenizer)
            documents.append(Document(whole, [True] * len(whole)))
    return _measured(documents, texts)


def tokenise(
    texts: Sequence[str], tokenizer: Any, length: int, *, role: str = "text"
) -> tuple[list[list[int]], int, int]:
    """Return the tokens of each text, how many texts were cut, and the number of tokens before that.

    A text that is cut keeps the special tokens at its end, which only the tokenizer can put there.

    Args:
        texts: the texts.
        tokenizer: a tokenizer of Transformers.
        length: the number of tokens after which a text is cut off.
        role: "text"; or "text_target" for what a decoder writes, which some tokenizers treat in another way.
    """
    rows, cut, total = [], 0, 0
    for chunk in _chunks(texts):
        found = list(tokenizer(**{role: chunk})["input_ids"])
        total += sum(map(len, found))
        long = [i for i, row in enumerate(found) if len(row) > length]
        if long:
            cut += len(long)
            short = tokenizer(**{role: [chunk[i] for i in long]}, truncation=True, max_length=length)["input_ids"]
            for i, row in zip(long, short, strict=True):
                found[i] = row
        rows += found
    return rows, cut, total


def encode_pairs(pairs: Sequence[tuple[str, str]], tokenizer: Any, loss_on: str) -> Encoded:
    """Tokenise prompts with their completions.

    Args:
        pairs: a prompt and its completion each. They are joined as they are.
        tokenizer: a fast tokenizer of Transformers.
        loss_on: "completion"; or "all" to count the prompt as well.

    Returns:
        A document for each pair.
    """
    texts = [prompt + completion for prompt, completion in pairs]
    spans = [[(0 if loss_on == "all" else len(prompt), len(prompt + completion))] for prompt, completion in pairs]
    documents = []
    for document in _encode_parts(texts, spans, tokenizer, special=True):
        whole = _with_end(document.tokens, tokenizer)
        documents.append(Document(whole, document.counted + [True] * (len(whole) - len(document.tokens))))
    return _measured(documents, texts)


def encode_chats(chats: Sequence[Sequence[dict[str, str]]], tokenizer: Any, loss_on: str, place: str) -> Encoded:
    """Write chats by the tokenizer's template, and tokenise them.

    Args:
        chats: the messages of each, with ``role`` and ``content``.
        tokenizer: a fast tokenizer of Transformers with a chat template.
        loss_on: "assistant" for the assistant's turns, "completion" for the last of them, or "all".
        place: the column and the split, for messages.

    Returns:
        A document for each chat.

    Raises:
        DataError: there is no template; it does not take a chat; or it does not tell where a turn of the assistant begins.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise DataError(
            "data.tokenizer: has no chat template, and the data are chats. Name the tokenizer of a chat model, or columns of "
            "plain texts in data.text_column."
        )
    template = _Template(tokenizer, loss_on)
    texts, spans = [], []
    for row, chat in enumerate(chats):
        try:
            text, parts = template.write(chat)
        except DataError as error:
            raise DataError(f"{place}, row {row}: {error}") from None
        texts.append(text)
        spans.append(parts)
    return _measured(list(_encode_parts(texts, spans, tokenizer, special=False)), texts)


def take_tokens(rows: Sequence[Sequence[int]], labels: Sequence[Sequence[int]] | None, place: str) -> Encoded:
    """Take documents that are tokenised already.

    Args:
        rows: the token ids of each document.
        labels: the same ids, or -100 for a token that does not count; None if all do.
        place: the column and the split, for messages.

    Returns:
        A document for each row.

    Raises:
        DataError: a row of labels is another text, or an id is negative.
    """
    documents = []
    for i, tokens in enumerate(rows):
        if min(tokens, default=0) < 0:
            raise DataError(f"{place}, row {i}: {min(tokens)} is no id of a token. Leave padding out of the rows.")
        theirs = tokens if labels is None else labels[i]
        if len(theirs) != len(tokens) or any(y not in (x, IGNORE_INDEX) for x, y in zip(tokens, theirs, strict=True)):
            raise DataError(
                f"{place}, row {i}: the labels are not the tokens of the row. Expected each token's own id, or -100 where it "
                "does not count; they are shifted for you."
            )
        documents.append(Document(list(tokens), [y != IGNORE_INDEX for y in theirs]))
    return Encoded(documents)


class _Template:
    """Writes chats as texts, and finds the turns that count in them."""

    def __init__(self, tokenizer: Any, loss_on: str) -> None:
        self._tokenizer, self._loss_on = tokenizer, loss_on
        asked = [{"role": "user", "content": "?"}]
        if loss_on != "all" and self._render(asked, prompt=True) == self._render(asked):
            raise DataError(
                "data.tokenizer: its chat template has no generation prompt, so nothing tells where a turn of the assistant "
                "begins. Use a template that knows add_generation_prompt, or set data.loss_on: all."
            )

    def write(self, chat: Sequence[dict[str, str]]) -> tuple[str, list[Span]]:
        """Return a chat as text, and the parts of it that count."""
        if not chat or any(not isinstance(m, dict) or not {"role", "content"} <= set(m) for m in chat):
            raise DataError("expected a list of messages, each with role and content.")
        text = self._render(chat)
        if self._loss_on == "all":
            return text, [(0, len(text))]
        turns = [i for i, message in enumerate(chat) if message["role"] == "assistant"]
        spans = []
        for i in turns if self._loss_on == "assistant" else turns[-1:]:
            before, after = self._render(chat[:i], prompt=True), self._render(chat[: i + 1])
            if not (text.startswith(before) and text.startswith(after)):
                raise DataError(
                    f"the chat template writes the first {i + 1} messages otherwise where more follow, so nothing tells which "
                    "tokens are the assistant's. Set data.loss_on: completion, or all."
                )
            spans.append((len(before), len(after)))
        return text, spans

    def _render(self, chat: Sequence[dict[str, str]], *, prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return self._tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=prompt)
        except (TemplateError, ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f"the chat template does not take it ({error}).") from None


def _encode_parts(
    texts: Sequence[str], spans: Sequence[Sequence[Span]], tokenizer: Any, *, special: bool
) -> Iterator[Document]:
    """Yield the tokens of each text. Those count that lie in one of its spans, at least in part."""
    for start, chunk in enumerate(_chunks(texts)):
        encoded = tokenizer(chunk, add_special_tokens=special, return_offsets_mapping=True)
        for row, (tokens, offsets) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)):
            parts = spans[start * CHUNK + row]
            yield Document(tokens, [any(end > a and begin < b for a, b in parts) for begin, end in offsets])


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in tqdm(range(0, len(texts), CHUNK), desc="Tokenising", delay=1.0, leave=False):
        yield list(texts[start : start + CHUNK])


def _with_end(tokens: list[int], tokenizer: Any) -> list[int]:
    """Return tokens that end with the token for the end of a text, if there is one."""
    end = tokenizer.eos_token_id
    return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]


def _measured(documents: list[Document], texts: Sequence[str]) -> Encoded:
    size, tokens = sum(len(text.encode()) for text in texts), sum(len(document.tokens) for document in documents)
    return Encoded(documents, size / tokens if tokens else None)
