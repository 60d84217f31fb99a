"""A language model that knows some of a tokenizer's tokens: which ones, its tokenizer, its weights, and a teacher beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.losses import IGNORE_INDEX
from limbeck.models.forward import call_model, logits_of

KINDS = ("BPE", "WordLevel")
"""The kinds of tokenizers, by the name in ``tokenizer.json``, of which tokens can be left out."""
TEACHER_IDS = "teacher_input_ids"
"""The entry of a batch with the ids of the whole tokenizer, which the teacher reads."""
ONE_TOKEN = "_token_id"
"""The end of the names in a config that stand for one token, or for several of which each has the same meaning."""
SEVERAL_TOKENS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
"""The names in a config that stand for lists of tokens, or for words of several tokens."""
COMPARED = 8
"""The tokens on which a model is compared with itself before its vocabulary was cut."""


@dataclass(frozen=True)
class KeptTokens:
    """Some tokens of a tokenizer. Each has a new id, its place among them; any other token becomes ``unknown``."""

    kept: Tensor
    """(K,) the ids that the tokens have in the whole tokenizer, ascending."""
    whole: Any
    """The whole tokenizer, whose ids the teacher reads."""
    tokenizer: Any = field(init=False)
    """The tokenizer with these tokens alone. It writes a word that has another token with more tokens, and every other word as
    the whole one does."""
    unknown: int = field(init=False)
    """The new id that stands for every other token."""
    _new: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        new = torch.full((max(self.whole.get_vocab().values()) + 1,), -1)
        new[self.kept] = torch.arange(len(self.kept))
        known = (self.whole.unk_token_id, self.whole.pad_token_id, self.whole.eos_token_id)
        object.__setattr__(self, "_new", new)
        object.__setattr__(self, "unknown", int(new[next((i for i in known if i is not None), self.kept[0])]))
        object.__setattr__(self, "tokenizer", _cut_tokenizer(self.whole, new.tolist()))

    def ids(self, tokens: Tensor) -> Tensor:
        """Return the new ids of tokens, -1 for those that are not kept.

        Args:
            tokens: ids of the whole tokenizer.
        """
        return self._new[tokens]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch for a student that knows these tokens alone, and for its teacher.

        Args:
            batch: ``input_ids``, ``labels`` and ``mask`` with the ids of the whole tokenizer.

        Returns:
            The batch with new ids, without a label where it is another token; and ``teacher_input_ids``, the ids as they were.
        """
        ids = self.ids(batch["input_ids"])
        labels = torch.where(batch["mask"] & (ids >= 0), ids, IGNORE_INDEX)
        read = torch.where(ids >= 0, ids, self.unknown)
        changed = {"input_ids": read, "labels": labels, "mask": batch["mask"] & (ids >= 0)}
        return {**batch, **changed, TEACHER_IDS: batch["input_ids"]}


def choose_tokens(counts: Tensor, tokenizer: Any, size: int) -> KeptTokens:
    """Return the tokens of a tokenizer that a corpus uses most, with all special tokens and single bytes.

    A token that is merged of others is kept with these, so that the tokenizer still reaches it. Among tokens that are used
    alike, those with the lowest ids are kept: a BPE tokenizer has merged them first, since they were the most frequent.

    Args:
        counts: (V,) how often the corpus has each id.
        tokenizer: a fast tokenizer of Transformers.
        size: how many tokens to keep, at most.

    Returns:
        The tokens.

    Raises:
        ArgumentError: the tokenizer is of a kind whose tokens belong together, or ``size`` has no room for the special tokens.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    kind, tokens = content["model"]["type"], tokenizer.get_vocab()
    if kind not in KINDS:
        raise ArgumentError(
            "vocabulary",
            f"the tokenizer is of the kind {kind}. Expected {' or '.join(KINDS)}, of which tokens can be left out. "
            "Leave it out.",
        )
    parts: dict[int, set[int]] = {}
    for first, second in _merges(content):
        parts.setdefault(tokens[first + second], set()).update((tokens[first], tokens[second]))
    kept = {tokens[token] for token in _basic(tokenizer, tokens)}
    if len(kept) > size:
        raise ArgumentError(
            "vocabulary", f"expected at least {len(kept)}, the special tokens and the single bytes, got {size}."
        )
    for token in counts.argsort(descending=True, stable=True).tolist():
        if len(kept) == size:
            break
        needed = _with_parts(token, parts) - kept
        if len(kept) + len(needed) <= size:
            kept |= needed
    return KeptTokens(torch.tensor(sorted(kept)), tokenizer)


def cut_vocabulary(model: nn.Module, kept: KeptTokens) -> nn.Module:
    """Leave out all but some tokens of the embeddings and of the head of a language model of Transformers, in place.

    Args:
        model: the model; its config says afterwards how many tokens it has, and the new ids of special ones.
        kept: the tokens.

    Returns:
        The same model. Its logits for these tokens are what they were.

    Raises:
        ModelError: it does not give the same logits, since other weights belong to its tokens as well.
    """
    cut: Any = model
    some = torch.arange(COMPARED) * (len(kept.kept) - 1) // (COMPARED - 1)
    _check_rows(model, len(cut.get_input_embeddings().weight), kept)
    before = _logits(model, kept.kept[some])[..., kept.kept]
    tables = {id(t.weight): t for t in (cut.get_input_embeddings(), cut.get_output_embeddings()) if t is not None}
    with torch.no_grad():
        for table in tables.values():
            for values in (table.weight, getattr(table, "bias", None)):
                if values is not None:
                    values[: len(kept.kept)] = values[kept.kept]
    cut.resize_token_embeddings(len(kept.kept), mean_resizing=False)
    cut.get_input_embeddings().padding_idx = None  # that of another token now
    configs = (cut.config, cut.config.get_text_config(), getattr(cut, "generation_config", None))
    for config in {id(config): config for config in configs if config is not None}.values():
        for name, ids in list(vars(config).items()):
            if ids is not None and (name.endswith(ONE_TOKEN) or name in SEVERAL_TOKENS):
                setattr(config, name, _new_ids(ids, kept))
    cut.name_or_path = cut.config.name_or_path = ""  # the folder that it comes from has another tokenizer
    if not torch.allclose(_logits(model, some), before, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
        raise ModelError(
            f"{type(model).__name__}: its vocabulary cannot be cut, since other weights than the embeddings and the head "
            "belong to its tokens. Leave out vocabulary."
        )
    return model


class TeacherOfKept(nn.Module):
    """A language model that reads whole texts and gives the logits of some tokens, whose softmax is over these alone.

    It reads ``teacher_input_ids``; where a batch has none, the new ids, as the tokens that they stand for.

    Args:
        model: a language model of Transformers with a linear head, which is cut in place.
        kept: the tokens.

    Raises:
        ModelError: its head is not found.
    """

    kept: Tensor

    def __init__(self, model: nn.Module, kept: KeptTokens) -> None:
        super().__init__()
        whole: Any = model
        head = whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None
        if not isinstance(head, nn.Linear):
            raise ModelError(f"{type(model).__name__}: its head is not found, so its vocabulary cannot be cut.")
        _check_rows(model, head.out_features, kept)
        cut = nn.Linear(head.in_features, len(kept.kept), bias=head.bias is not None).to(head.weight)
        with torch.no_grad():
            cut.weight.copy_(head.weight[kept.kept])
            if head.bias is not None:
                cut.bias.copy_(head.bias[kept.kept])
        whole.set_output_embeddings(cut)
        self.model, self.config = model, whole.config
        self.register_buffer("kept", kept.kept, persistent=False)
        self.train(model.training)

    def get_output_embeddings(self) -> nn.Module:
        """Return the head, as a model of Transformers does."""
        return cast(Any, self.model).get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        teacher_input_ids: Tensor | None = None,
    ) -> Any:
        read = self.kept[input_ids] if teacher_input_ids is None else teacher_input_ids
        given = {"input_ids": read, "attention_mask": attention_mask, "position_ids": position_ids}
        return call_model(self.model, {name: value for name, value in given.items() if value is not None})


def _check_rows(model: nn.Module, rows: int, kept: KeptTokens) -> None:
    if int(kept.kept[-1]) >= rows:
        raise ModelError(
            f"{type(model).__name__} knows {rows} tokens, and the data's tokenizer has ids up to {int(kept.kept[-1])}. Name "
            "the tokenizer that it was trained with as data.tokenizer."
        )


@torch.no_grad()
def _logits(model: nn.Module, ids: Tensor) -> Tensor:
    training = model.training
    logits = logits_of(call_model(model.eval(), {"input_ids": ids[None]}), model)
    model.train(training)
    return logits


def _new_ids(ids: Any, kept: KeptTokens) -> Any:
    """Return the new ids of one token, of several, or of words; None if none is kept. A word is kept if all its tokens are."""
    if isinstance(ids, list | tuple):
        if ids and isinstance(ids[0], list | tuple):
            return [new for word in ids if len(new := _new_ids(word, kept) or []) == len(word)] or None
        return [new for i in ids if (new := _new_ids(i, kept)) is not None] or None
    new = int(kept.ids(torch.tensor(ids))) if 0 <= ids < len(kept._new) else -1
    return None if new < 0 else new


def _merges(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the two parts of each merge of a tokenizer, by its ``tokenizer.json``."""
    for merge in content["model"].get("merges", ()):
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        yield first, second


def _basic(tokenizer: Any, tokens: dict[str, int]) -> set[str]:
    """Return the tokens that are always kept: those that were added, special ones, and single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    single = {*ByteLevel.alphabet(), *(f"<0x{byte:02X}>" for byte in range(256))}
    return {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens, *(single & tokens.keys())}


def _with_parts(token: int, parts: dict[int, set[int]]) -> set[int]:
    """Return a token with all tokens that it is merged of."""
    found, open_ = {token}, [token]
    while open_:
        new = parts.get(open_.pop(), set()) - found
        found |= new
        open_ += new
    return found


def _cut_tokenizer(tokenizer: Any, new: Sequence[int]) -> Any:
    """Return a tokenizer that has some of another's tokens, with new ids.

    Args:
        tokenizer: a fast tokenizer.
        new: the new id of each token, -1 if it is left out.
    """
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.backend_tokenizer.to_str())
    model = content["model"]
    model["vocab"] = {token: new[id_] for token, id_ in model["vocab"].items() if new[id_] >= 0}
    if "merges" in model:
        vocab = model["vocab"]
        model["merges"] = [[a, b] for a, b in _merges(content) if {a, b, a + b} <= vocab.keys()]
    for added in content["added_tokens"]:
        added["id"] = new[added["id"]]
    content["post_processor"] = _with_new_ids(content["post_processor"], new)
    cut = deepcopy(tokenizer)
    cut._tokenizer = Tokenizer.from_str(json.dumps(content))
    return cut


def _with_new_ids(part: Any, new: Sequence[int]) -> Any:
    """Return a post-processor of ``tokenizer.json`` with the new ids of the special tokens that it adds."""
    if isinstance(part, dict):
        if isinstance(part.get("ids"), list):
            return {**part, "ids": [new[i] for i in part["ids"]]}
        return {
            name: [value[0], new[value[1]]] if name in ("sep", "cls") else _with_new_ids(value, new)
            for name, value in part.items()
        }
    return [_with_new_ids(one, new) for one in part] if isinstance(part, list) else part
