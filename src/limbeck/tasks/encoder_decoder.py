"""Models with an encoder and a decoder: the decoder's own inputs are shifted, and its logits are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from limbeck.errors import ArgumentError
from limbeck.tasks.base import Targets
from limbeck.tasks.causal_lm import GENERATORS
from limbeck.tasks.classification import Classification


class EncoderDecoder(Classification):
    """A model with an encoder and a decoder: its logits meet the labels of the same position of the decoder.

    Without ``decoder_input_ids`` some of these models take the encoder's tokens for them, and their logits then belong to no
    label.
    """

    name: ClassVar[str] = "encoder_decoder"

    @classmethod
    def recognises(cls, name: str, *, has_encoder_and_decoder: bool) -> bool:
        """Return True for the models of Transformers that generate text and have an encoder and a decoder."""
        return has_encoder_and_decoder and bool(GENERATORS.search(name))

    def targets(self, batch: Mapping[str, Any]) -> Targets:
        """Return the batch's labels and the positions that count, where the decoder has inputs of its own.

        Raises:
            ArgumentError: the batch has no inputs of the decoder.
        """
        if not {"decoder_input_ids", "decoder_inputs_embeds"} & set(batch):
            raise ArgumentError(
                "task",
                "the student has an encoder and a decoder, and the batch has no decoder_input_ids. Add them with "
                "DataCollatorForSeq2Seq(tokenizer, model=student), or pass a task= of your own.",
            )
        return super().targets(batch)
