"""The teacher's last linear layer, for stores that keep what goes into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import linear

from limbeck.atomic_files import durable_write
from limbeck.errors import StoreError
from limbeck.store.storage import Place, first_line

FILE = "head.safetensors"


def find_output_layer(model: nn.Module) -> nn.Linear:
    """The output embedding of a Hugging Face model, or the last linear layer of a module.

    Raises:
        StoreError: there is none.
    """
    embeddings = getattr(model, "get_output_embeddings", None)
    head = embeddings() if callable(embeddings) else None
    if head is None:
        head = next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)
    if not isinstance(head, nn.Linear):
        raise StoreError(
            "format: hidden needs a teacher that ends in a linear layer. Store dense logits or a top-k list."
        )
    return head


@contextmanager
def inputs_of(head: nn.Linear) -> Iterator[list[Tensor]]:
    """Collects what goes into the layer while the block runs."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        hook.remove()


def check_head(head: nn.Linear, hidden: Tensor, logits: Tensor) -> None:
    """See that the logits are the layer's output and nothing after it.

    Raises:
        StoreError: they are not.
    """
    again = head(hidden)
    if again.shape != logits.shape or not torch.allclose(again.float(), logits.float(), rtol=1e-2, atol=1e-3):
        raise StoreError(
            "format: hidden needs logits that are the last linear layer's output, and this teacher changes them after it (a "
            "soft-cap or a scale?). Store dense logits or a top-k list."
        )


def write_output_layer(place: Place, head: nn.Linear) -> None:
    """Keep the layer beside the shards."""
    with durable_write(place.folder / FILE) as aside:
        aside.write_bytes(_bytes_of(head))
    place.publish(FILE)


def checksum_of_output_layer(head: nn.Linear) -> str:
    """What ``places.checksum`` says of the file that ``write_output_layer`` writes."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(_bytes_of(head))}"


def _bytes_of(head: nn.Linear) -> bytes:
    return save({name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()})


class StoredOutputLayer:
    """The layer that was kept.

    Raises:
        StoreError: it is missing, broken, or of other sizes.
    """

    def __init__(self, place: Place, classes: int, size: int, expected: str) -> None:
        path = place / FILE
        try:
            tensors = load_file(place.fetch(FILE, expected))
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path}: cannot be read ({first_line(error)}).") from None
        self.weight, self.bias = tensors.get("weight"), tensors.get("bias")
        if self.weight is None or self.weight.shape != (classes, size):
            raise StoreError(f"{path}: has no weight of shape {(classes, size)}.")
        self.weight = self.weight.float()
        self.bias = None if self.bias is None else self.bias.float()

    def __call__(self, hidden: Tensor) -> Tensor:
        assert self.weight is not None
        return linear(hidden.float(), self.weight, self.bias)
