"""The teacher's last linear layer, which the format "hidden" keeps beside the shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import linear

from limbeck.atomic_files import durable_write
from limbeck.errors import StoreError
from limbeck.store.errors import StoreArgumentError
from limbeck.store.storage import Storage, file_checksum, first_line

OUTPUT_LAYER_FILE = "head.safetensors"


def find_output_layer(model: nn.Module) -> nn.Linear:
    """Return the linear layer that computes a model's logits.

    Args:
        model: any module.

    Returns:
        The output embedding of a Hugging Face model, or else the last linear layer among the model's modules.

    Raises:
        StoreArgumentError: the model has no such layer.
    """
    output_embeddings = getattr(model, "get_output_embeddings", None)
    layer = output_embeddings() if callable(output_embeddings) else None
    if layer is None:
        layer = next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)
    if not isinstance(layer, nn.Linear):
        raise StoreArgumentError(
            "format", "hidden needs a teacher that ends in a linear layer. Store dense logits or a top-k list."
        )
    return layer


def scaled_layer(layer: nn.Linear, scale: float) -> nn.Linear:
    """Return a linear layer whose output is that of another one times a number.

    Args:
        layer: the other one.
        scale: the number.
    """
    scaled = deepcopy(layer).requires_grad_(False)
    for values in scaled.parameters():
        values.mul_(scale)
    return scaled


@contextmanager
def record_inputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Record the inputs of a layer while the block runs.

    Args:
        layer: any module whose first argument is a tensor.

    Yields:
        A list, to which each call of the layer adds its input.
    """
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].detach()))
    try:
        yield inputs
    finally:
        hook.remove()


def check_output_layer(layer: nn.Linear, hidden: Tensor, logits: Tensor) -> None:
    """Check that a model's logits are the output of its last linear layer, with nothing applied after it.

    Args:
        layer: the linear layer, (V, d).
        hidden: (P, d), the layer's inputs.
        logits: (P, V), what the model returned for them.

    Raises:
        StoreArgumentError: the logits are something else.
    """
    expected = layer(hidden)
    if expected.shape != logits.shape or not torch.allclose(expected.float(), logits.float(), rtol=1e-2, atol=1e-3):
        raise StoreArgumentError(
            "format",
            "hidden needs logits that are the last linear layer's output, and this teacher changes them after it (a "
            "soft-cap?). Store dense logits or a top-k list.",
        )


def write_output_layer(storage: Storage, layer: nn.Linear) -> None:
    """Write the layer to the store.

    Args:
        storage: where the store is.
        layer: the layer.

    Raises:
        StoreError: the file cannot be written or uploaded.
    """
    try:
        with durable_write(storage.folder / OUTPUT_LAYER_FILE) as temporary:
            temporary.write_bytes(_serialize(layer))
    except OSError as error:
        raise StoreError(
            f"{storage.location(OUTPUT_LAYER_FILE)}: cannot be written ({error.strerror or error}). Make room and build again "
            "to go on."
        ) from None
    storage.publish(OUTPUT_LAYER_FILE)


def has_output_layer(storage: Storage, checksum: str) -> bool:
    """Return True if the store has the file of this very layer, and not one that another build left behind.

    Args:
        storage: where the store is.
        checksum: what ``output_layer_checksum`` returns for the layer.
    """
    try:
        return file_checksum(storage.fetch(OUTPUT_LAYER_FILE, checksum)) == checksum
    except (OSError, StoreError):
        return False


def output_layer_checksum(layer: nn.Linear) -> str:
    """Return the checksum of the file that ``write_output_layer`` writes, without writing it.

    Args:
        layer: the layer.

    Returns:
        The same text as ``storage.file_checksum`` returns for that file.
    """
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(_serialize(layer))}"


def _serialize(layer: nn.Linear) -> bytes:
    """Return the layer's weight and bias as the content of a safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in layer.state_dict().items()})


class StoredOutputLayer:
    """The last linear layer of the teacher, read from a store.

    Args:
        storage: where the store is.
        classes: V, the number of outputs that is expected.
        size: d, the number of inputs that is expected.
        expected_checksum: the checksum of the file, as the store's description has it.

    Raises:
        StoreError: the file is missing, damaged or of another build, or its weight has another shape.
    """

    def __init__(self, storage: Storage, classes: int, size: int, expected_checksum: str) -> None:
        location = storage.location(OUTPUT_LAYER_FILE)
        try:
            path = storage.fetch(OUTPUT_LAYER_FILE, expected_checksum)
            found = file_checksum(path, expected_checksum.partition(":")[0])
            if found != expected_checksum:
                raise StoreError(
                    f"{location}: its checksum is {found}, the manifests say {expected_checksum}. It is damaged or of another "
                    "teacher; build the store again to write it."
                )
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{location}: cannot be read ({first_line(error)}).") from None
        weight, bias = tensors.get("weight"), tensors.get("bias")
        if weight is None or weight.shape != (classes, size):
            raise StoreError(f"{location}: has no weight of shape {(classes, size)}.")
        self.weight = weight.float()
        self.bias = None if bias is None else bias.float()

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits (P, V) of hidden states (P, d), in float32."""
        return linear(hidden.float(), self.weight, self.bias)
