"""The last layer of a language model: found in the model, proved on its own logits, and then run a few positions at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.kernels.linear import OutputLayer, rows_in_chunk
from limbeck.losses.projection import Unprojected
from limbeck.models.forward import call_model, logits_of, underlying

T = TypeVar("T")
TOKENS = 8
"""The tokens on which a head is proved."""
SMALL, LARGE = 2.0**-20, 1e9
NUMBERS = (0.0, SMALL, LARGE, 1.0, -3.0, 20.0, -100.0, 1e4)
"""Numbers that a model is given in the place of its last layer's output, to see what it does with them. As many as tokens."""


class Head:
    """The last layer of a language model, and the scale and soft-cap that the model puts on its output.

    ``run`` calls the whole model, in whatever wrapper it is, and computes something in the place of the logits. It happens
    inside of the layer's own forward, where DDP, FSDP and DeepSpeed have the layer's weights ready.

    Args:
        layer: the layer, a module that the model calls once with the hidden states of all positions.
        scale: the model multiplies the layer's output by it.
        softcap: the bound of the logits; None for none.
    """

    def __init__(self, layer: nn.Module, scale: float = 1.0, softcap: float | None = None) -> None:
        self.layer, self.scale, self.softcap = layer, scale, softcap
        self.sample = torch.empty(0)
        """(TOKENS, V), the model's logits on which the head was proved."""
        self._own = layer.forward
        self._compute: Callable[[Tensor], Any] | None = None
        self._results: list[Any] = []
        # A graph break; and one object for all calls, since compiled code is made anew where another takes its place.
        self._forward = torch.compiler.disable(self._in_place_of_layer)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the model's logits (..., V) of hidden states (..., d).

        Args:
            hidden: what ``run`` gives to its function.
        """
        logits = self._own(hidden)
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.softcap is None else (logits / self.softcap).tanh() * self.softcap

    def parts(self, hidden: Tensor) -> Iterator[slice]:
        """Yield slices of the axis of positions, which are few enough for their logits to take little memory.

        Args:
            hidden: (N, L, d).
        """
        step = max(1, rows_in_chunk(self.sample.shape[-1], hidden.device) // max(1, len(hidden)))
        for start in range(0, hidden.shape[1], step):
            yield slice(start, start + step)

    def unprojected(self, hidden: Tensor) -> Unprojected:
        """Return the logits of hidden states as the fused losses take them: not computed.

        Args:
            hidden: what ``run`` gives to its function.

        Raises:
            ModelError: the layer is not linear, or has adapters of an unknown kind.
        """
        hidden, weight, bias = _linear_in(self.layer, hidden)
        return Unprojected(hidden, OutputLayer(weight, bias, self.scale, self.softcap))

    def run(self, call: Callable[[], Any], compute: Callable[[Tensor], T]) -> T:
        """Call a model, and return what a function computes from the hidden states before its last layer.

        Args:
            call: calls the model.
            compute: is given the hidden states (N, L, d), inside of the last layer's forward. Where it returns one number with
                a gradient, that gradient goes back through the model's output, as wrappers of models expect.

        Raises:
            ModelError: the model did not call its last layer just once.
        """
        self._compute, self._results = compute, []
        before = vars(self.layer).get("forward")
        self.layer.forward = self._forward
        try:
            output = call()
        finally:
            if before is None:
                del self.layer.forward
            else:
                self.layer.forward = before
            self._compute, results, self._results = None, self._results, []
        if len(results) != 1:
            raise ModelError(f"it calls its last layer {len(results)} times in a forward pass")
        result = results[0]
        if isinstance(result, Tensor) and result.requires_grad:
            result = result.detach() + logits_of(output, self.layer).flatten()[0]
        return cast(T, result)

    def _in_place_of_layer(self, hidden: Tensor) -> Tensor:
        """Compute, and return what is to go through the rest of the model: a 0 that carries the gradient of a loss."""
        assert self._compute is not None
        self._results.append(self._compute(hidden))
        result, positions = self._results[-1], hidden.shape[:-1]
        if not isinstance(result, Tensor) or not result.requires_grad:
            return torch.zeros(*positions, 1, device=hidden.device)
        return torch.ones(*positions, 1, device=hidden.device) * ((result - result.detach()) / self.scale)


def find_head(
    model: nn.Module, batch: Mapping[str, Any], *, call: Callable[[Mapping[str, Any]], Any] | None = None
) -> Head:
    """Return the last layer of a language model, after a proof on a few tokens that the logits are what is made of it.

    What the model does with the layer's output is measured: it is given other numbers in its place. A scale and a soft-cap
    are known; anything else is refused.

    Args:
        model: a model of Transformers, perhaps with adapters of PEFT.
        batch: one that the model can be called with, of which a few tokens are taken.
        call: calls the model, or the wrapper around it, with a batch; by default the model itself.

    Returns:
        The head. Its ``sample`` has the logits of these tokens.

    Raises:
        ModelError: the logits are made in another way; the message says how, and does not name the model.
    """
    call = call or (lambda given: call_model(model, given))
    layer, tokens = _output_embedding(model), batch.get("input_ids")
    if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.numel() == 0:
        raise ModelError("its batches have no input_ids")
    few = tokens.flatten()[:TOKENS].repeat(TOKENS)[:TOKENS].unsqueeze(0)
    few = {"input_ids": few, **({"attention_mask": torch.ones_like(few)} if "attention_mask" in batch else {})}
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            logits = logits_of(call(few), model)
            head = _measured(layer, lambda: call(few), model)
            found = head.run(lambda: call(few), lambda hidden: _both_ways(head, hidden))
    finally:
        for part, training in modes:
            part.training = training
    coarse = max(torch.finfo(x.dtype).eps for x in (logits, *found))
    within = (8 * coarse + 1e-5) * float(logits.abs().amax())
    if not all(_are_close(logits, expected, within) for expected in found):
        raise ModelError("its logits are not those of its last layer")
    head.sample = logits.squeeze(0)
    return head


def _output_embedding(model: nn.Module) -> nn.Module:
    """Return the layer that a model of Transformers names as that of its logits."""
    inside = underlying(model)
    if getattr(getattr(inside, "config", None), "is_encoder_decoder", False):
        raise ModelError("it has an encoder and a decoder")
    get_embeddings = getattr(inside, "get_output_embeddings", None)
    layer = get_embeddings() if callable(get_embeddings) else None
    if not isinstance(layer, nn.Module):
        raise ModelError("it is no language model of Transformers, with output embeddings")
    if any(hasattr(part, "_hf_hook") for part in inside.modules()):
        raise ModelError("its loader has spread it over devices")
    for name, weight in inside.named_parameters():
        if weight.requires_grad and weight.numel() == 1:
            raise ModelError(f"it trains the number {name}, which may be a factor on the logits")
    return layer


def _measured(layer: nn.Module, call: Callable[[], Any], model: nn.Module) -> Head:
    """Return the head with the scale and the soft-cap that a model puts on the output of a layer."""
    numbers = torch.tensor(NUMBERS, dtype=torch.float64)
    before = vars(layer).get("forward")
    layer.forward = lambda hidden: numbers.to(hidden.device).view(1, TOKENS, 1)
    try:
        told = logits_of(call(), model).double().cpu()
    except Exception as error:  # whatever a forward does that expects a column for each token
        raise ModelError(f"its forward does more with its logits ({type(error).__name__})") from None
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before
    if told.shape != (1, TOKENS, 1):
        raise ModelError("it does not return the output of its last layer")
    told = told.flatten()
    scale, bound = float(told[1]) / SMALL, float(told[2])
    if not math.isfinite(scale) or scale == 0:
        raise ModelError("what it does with the output of its last layer is no scale and no soft-cap")
    softcap = None if math.isclose(bound, scale * LARGE, rel_tol=1e-3) else abs(bound)
    scaled = scale * numbers
    expected = scaled if softcap is None else (scaled / softcap).tanh() * softcap
    if not torch.allclose(told, expected, rtol=1e-5, atol=1e-12):
        raise ModelError("what it does with the output of its last layer is no scale and no soft-cap")
    # A model in float32 tells the scale with 7 digits, of which the last may be those of rounding.
    return Head(layer, round(scale) if math.isclose(scale, round(scale), rel_tol=1e-6) else scale, softcap)


def _both_ways(head: Head, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits as the layer computes them, and as the fused losses do."""
    if hidden.shape[:-1] != (1, TOKENS):
        raise ModelError(f"its last layer is given {tuple(hidden.shape)} for {TOKENS} tokens")
    unprojected = head.unprojected(hidden)
    layer, rows = unprojected.layer, unprojected.hidden.flatten(0, -2)
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    out = torch.empty(TOKENS, len(layer.weight), dtype=dtype, device=hidden.device)
    own = head.logits(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        prepared = layer.prepared(len(layer.weight), rows, dtype)
        return own, prepared.logits(rows.to(prepared.weight.dtype), out).unsqueeze(0)


def _are_close(logits: Tensor, expected: Tensor, within: float) -> bool:
    """Return True if both have the same shape, and no two numbers differ by more."""
    return logits.shape == expected.shape and torch.allclose(
        logits.double(), expected.double(), rtol=0, atol=within, equal_nan=True
    )


def _linear_in(layer: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return input, weight and bias of the one product that a layer is, with the low-rank adapters of PEFT in it.

    W x + s B A x is the product of (W, B) with (x, s A x).
    """
    if hasattr(layer, "modules_to_save"):  # PEFT trains a copy of the whole layer
        layer = layer.original_module if layer.disable_adapters else layer.modules_to_save[layer.active_adapters[0]]
    base = layer.base_layer if hasattr(layer, "lora_A") else layer
    if not isinstance(base, nn.Linear) or type(base).forward is not nn.Linear.forward:
        raise ModelError(f"its last layer is a {type(base).__name__}, not a linear layer")
    if base is layer or layer.disable_adapters or layer.merged:
        return hidden, base.weight, base.bias
    inputs, weights = [hidden], [base.weight]
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        down, up = layer.lora_A[name], layer.lora_B[name]
        if name in getattr(layer, "lora_variant", {}) or up.bias is not None:
            raise ModelError(f"the adapter {name} of its last layer is more than a product of low rank")
        low_rank = down(layer.lora_dropout[name](hidden.to(down.weight.dtype))) * layer.scaling[name]
        inputs.append(low_rank.to(hidden.dtype))
        weights.append(up.weight.to(base.weight.dtype))
    return torch.cat(inputs, -1), torch.cat(weights, 1), base.bias
