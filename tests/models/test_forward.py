import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.models import count_parameters, forward_logits


class TestForwardLogits:
    def test_inputs_go_by_name_or_alone_by_position(self):
        class Named(nn.Module):
            def forward(self, second, first):
                return first - second

        batch = {"first": torch.ones(2, 3), "second": torch.zeros(2, 3), "labels": torch.tensor([0, 1])}
        assert (forward_logits(Named(), batch) == 1).all()
        assert forward_logits(nn.Identity(), {"pixel_values": torch.ones(2, 3), "labels": torch.ones(2)}).shape == (
            2,
            3,
        )

    def test_an_input_that_the_model_does_not_take_is_left_out(self):
        class OnlyIds(nn.Module):
            def forward(self, input_ids):
                return input_ids.float()

        assert (
            forward_logits(OnlyIds(), {"input_ids": torch.ones(2, 3), "token_type_ids": torch.zeros(2, 3)}).sum() == 6
        )

    def test_what_cannot_be_called_is_said(self):
        class Two(nn.Module):
            def forward(self, image, text):
                return image

        with pytest.raises(ModelError, match=r"Two\.forward takes image, text.*pixel_values, input_ids"):
            forward_logits(Two(), {"pixel_values": torch.ones(1), "input_ids": torch.ones(1)})

        class Nothing(nn.Module):
            def forward(self, x):
                return {"hidden": x}

        with pytest.raises(ModelError, match=r"Nothing returned .*\.logits"):
            forward_logits(Nothing(), {"x": torch.ones(1)})


def test_shared_parameters_are_counted_once():
    model = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)])
    model[1].weight = model[0].weight
    assert count_parameters(model) == 9
