"""The inputs of decoders: the student's rule, the teacher's, and those that the batch has."""

import pytest
import torch
from torch import nn

from limbeck.errors import ArgumentError
from limbeck.tasks import EncoderDecoder
from limbeck.tasks.encoder_decoder import decoder_inputs
from support.workbench import Net

LABELS = torch.tensor([[5, 6, 7], [8, -100, -100]])


class Decoder(nn.Module):
    """A model without a rule of its own, whose config says how its decoder begins."""

    def __init__(self, begin, padding=0):
        super().__init__()
        self.config = type("Config", (), {"decoder_start_token_id": begin, "pad_token_id": padding})()


class Ruled(Decoder):
    def prepare_decoder_input_ids_from_labels(self, labels):
        return labels.roll(1, 1)


def test_the_rule_of_the_config_and_that_of_the_model():
    made = [EncoderDecoder().complete({"labels": LABELS}, [model]) for model in (Decoder(2), Ruled(2))]
    assert made[0]["decoder_input_ids"].tolist() == [[2, 5, 6], [2, 8, 0]]
    assert made[1]["decoder_input_ids"].tolist() == [[7, 5, 6], [-100, 8, -100]]
    assert decoder_inputs(Decoder(None), LABELS) is None
    assert decoder_inputs(Net(), LABELS) is None


def test_both_models_read_what_the_student_makes():
    batch = {"input_ids": LABELS, "labels": LABELS}
    made = EncoderDecoder().complete(batch, [Decoder(2), Decoder(2, padding=9), Net()])
    assert made["decoder_input_ids"].tolist() == [[2, 5, 6], [2, 8, 0]]
    assert "decoder_input_ids" not in batch
    assert EncoderDecoder().complete(made, [Net(), Decoder(3)]) is made


def test_a_teacher_that_begins_with_another_token_is_refused():
    with pytest.raises(
        ArgumentError, match=r"teacher: its decoder begins with the tokens \[3\], and the student's with \[2\]"
    ):
        EncoderDecoder().complete({"labels": LABELS}, [Decoder(2), Decoder(3)])


@pytest.mark.parametrize("batch", [{"input_ids": LABELS}, {"input_ids": LABELS, "labels": LABELS}])
def test_without_labels_or_a_rule_there_are_no_inputs(batch):
    with pytest.raises(ArgumentError, match=r"task: .*no decoder_input_ids, nor labels"):
        EncoderDecoder().complete(batch, [Net()])


def test_without_labels_the_tokens_of_the_decoder_count():
    batch = {"input_ids": torch.ones(2, 5), "decoder_input_ids": LABELS, "decoder_attention_mask": LABELS > 0}
    targets = EncoderDecoder().targets(batch)
    assert targets.labels is None
    assert torch.equal(targets.mask, LABELS > 0)
