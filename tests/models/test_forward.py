import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.models import SelectedColumns, count_parameters, first_input, floating_dtype, forward_logits, freeze
from limbeck.models.forward import input_names, only_logits_of


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

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_inputs_are_cast_to_the_dtype_of_the_weights(self, dtype):
        model, batch = nn.Linear(3, 2, dtype=dtype), {"pixel_values": torch.ones(4, 3)}
        assert torch.equal(forward_logits(model, batch), model(batch["pixel_values"].to(dtype)))

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


def test_a_model_that_takes_any_name_gets_all_inputs_and_no_labels():
    class Any(nn.Module):
        def forward(self, **inputs):
            self.given = set(inputs)
            return inputs["x"]

    model = Any()
    forward_logits(
        model, {"x": torch.ones(1), "y": torch.ones(1), "labels": torch.ones(1), "example_id": torch.ones(1)}
    )
    assert model.given == {"x", "y"}


def test_a_wrapper_is_called_by_the_signature_of_what_it_wraps():
    class Named(nn.Module):
        def forward(self, first):
            return (first, None)

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *inputs, **named):
            return self.module(*inputs, **named)

    inner = Named()
    batch = {"first": torch.ones(2), "second": torch.zeros(2)}
    assert torch.equal(forward_logits(Wrapper(inner), batch, signature_of=inner), torch.ones(2))


def test_the_first_input():
    batch = {"labels": torch.zeros(1), "name": "x", "x": torch.ones(3), "y": torch.ones(4)}
    assert len(first_input(batch)) == 3
    with pytest.raises(ModelError, match="no input tensor, only labels"):
        first_input({"labels": torch.zeros(1)})


def test_freezing():
    model = freeze(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert not model[1].training


def test_the_dtype_of_a_model():
    assert floating_dtype(nn.Linear(2, 2, dtype=torch.bfloat16)) == torch.bfloat16
    assert floating_dtype(nn.ReLU()) is None


class Named(nn.Module):
    """A model with two inputs, of which one is optional."""

    def forward(self, input_ids, attention_mask=None):
        return input_ids.float() if attention_mask is None else (input_ids * attention_mask).float()


class Lora(nn.Module):
    """A wrapper that names no input, with weights of its own beside the model inside."""

    def __init__(self, base):
        super().__init__()
        self.base, self.a = base, nn.Linear(1, 1)

    def forward(self, *args, **kwargs):
        return self.base(*args, **kwargs)


class TestWrappers:
    """Whatever is around a model, it is given what it takes, no more and no less."""

    BATCH = {  # noqa: RUF012
        "input_ids": torch.full((2, 3), 5), "attention_mask": torch.tensor([[1, 1, 0]] * 2),
        "token_type_ids": torch.zeros(2, 3),
    }  # fmt: skip

    @pytest.mark.parametrize(
        "wrap",
        [Lora, nn.DataParallel, lambda model: Lora(Lora(model)), lambda model: torch.compile(model, backend="eager"),
         lambda model: torch.compile(Lora(model), backend="eager"), lambda model: SelectedColumns(model, [0, 1, 2])],
        ids=["lora", "data parallel", "twice", "compiled", "compiled lora", "selected columns"],
    )  # fmt: skip
    def test_the_model_inside_is_given_what_it_takes(self, wrap):
        wrapped = wrap(Named())
        assert torch.equal(forward_logits(wrapped, self.BATCH), Named()(**dict(list(self.BATCH.items())[:2])))
        assert input_names(wrapped) == {"input_ids", "attention_mask"}

    @pytest.mark.parametrize("wrap", [Lora, nn.DataParallel])
    def test_a_single_input_of_another_name(self, wrap):
        assert forward_logits(wrap(nn.Sequential(nn.Flatten())), {"pixel_values": torch.ones(2, 1, 3)}).shape == (2, 3)

    def test_what_no_wrapper_tells_is_refused(self):
        class Opaque(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = Named(), Named()

            def forward(self, **inputs):
                return self.one(**inputs)

        with pytest.raises(ModelError, match=r"Opaque\.forward takes any name and was given .* 'token_type_ids'"):
            forward_logits(Opaque(), self.BATCH)


def test_two_tensors_of_one_shape_are_two_heads():
    logits = torch.zeros(2, 3)
    assert only_logits_of((logits, torch.zeros(2, 4), None), object()) is logits
    with pytest.raises(ModelError, match=r"object returned tuple of a tensor of shape \(2, 3\), a tensor of shape"):
        only_logits_of((logits, torch.ones(2, 3)), object())
