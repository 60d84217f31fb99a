"""Students made of some layers of a language model."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    Qwen3Config,
)

from limbeck.errors import ArgumentError, ModelError
from limbeck.models.shrink import TeacherLayers, choose_layers, count_layers, keep_layers, with_layers
from support.language import encoder_decoder, llama, masked_bert

SMALL = dict(
    vocab_size=29, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, pad_token_id=0, bos_token_id=None
)
OF_LAYERS = dict(intermediate_size=32, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, eos_token_id=28)
TYPES = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
CONFIGS = {
    "gpt2": GPT2Config(
        vocab_size=29, n_embd=16, n_layer=4, n_head=2, n_positions=64, bos_token_id=None, eos_token_id=28
    ),
    "qwen3": Qwen3Config(**SMALL, **OF_LAYERS),
    "gemma3": Gemma3TextConfig(**SMALL, **OF_LAYERS, layer_types=TYPES, sliding_window=4),
}
SIZES = dict(vocab_size=29, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2)
IDS = torch.arange(1, 21)[None]


def logits(model):
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


def test_left_out_layers_are_as_if_they_changed_nothing():
    model, whole = llama(layers=4), llama(layers=4)
    for i in (1, 2):
        whole.model.layers[i].forward = lambda hidden_states, *args, **kwargs: hidden_states
    with with_layers(model, [0, 3]):
        torch.testing.assert_close(logits(model), logits(whole))
    torch.testing.assert_close(logits(model), logits(llama(layers=4)))
    assert count_layers(model) == 4
    torch.testing.assert_close(logits(keep_layers(model, [0, 3])), logits(whole))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shrunk_model_is_saved_as_itself(name, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    expected = logits(keep_layers(model, [1, 3]))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), expected)
    assert again.config.num_hidden_layers == 2
    assert again.generate(IDS, max_new_tokens=2, do_sample=False).shape == (1, 22)
    if name == "gemma3":
        assert again.config.layer_types == ["full_attention", "sliding_attention"]


def test_choices():
    assert choose_layers(TeacherLayers(2), 30, len) == [0, 29]
    assert choose_layers(TeacherLayers(1), 30, len) == [0]
    assert choose_layers(TeacherLayers(3, "first"), 30, len) == [0, 1, 2]
    assert choose_layers(TeacherLayers([0, 29]), 30, len) == [0, 29]
    worth = {0: 5.0, 1: 1.0, 2: 3.0, 3: 2.0, 4: 9.0}
    assert choose_layers(TeacherLayers(3, "measured"), 5, lambda layers: sum(worth[i] for i in layers)) == [0, 2, 4]


def test_what_cannot_be_chosen():
    for given, message in (
        (([3, 1],), "layers: expected each layer once, in their order"),
        (([0, 1], "even"), "choose: has no effect"),
    ):
        with pytest.raises(ArgumentError, match=message):
            TeacherLayers(*given)
    with pytest.raises(ArgumentError, match="layers: the teacher has 2 layers, got 3"):
        choose_layers(TeacherLayers(3), 2, len)
    with pytest.raises(ArgumentError, match=r"layers: the teacher has the layers 0 to 1, got \[5\]"):
        choose_layers(TeacherLayers([5]), 2, len)
    with pytest.raises(ModelError, match="its layers are not found"):
        count_layers(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("kind", ["bert", "t5", "bart", "marian"])
def test_other_language_models_are_saved_as_themselves(kind, tmp_path):
    model = masked_bert(layers=3) if kind == "bert" else encoder_decoder(kind, layers=3)
    inputs = {"input_ids": IDS} if kind == "bert" else {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}
    with torch.no_grad():
        whole = model(**inputs).logits
        with with_layers(model, [0, 2]):
            inside = model(**inputs).logits
        torch.testing.assert_close(model(**inputs).logits, whole)
        assert count_layers(model) == 3
        keep_layers(model, [0, 2]).save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        torch.testing.assert_close(again(**inputs).logits, inside)
    assert count_layers(again) == 2
    assert not torch.allclose(inside, whole, atol=1e-3)


def test_layers_that_others_need_and_layers_that_are_not_alike():
    t5 = encoder_decoder("t5", layers=2)
    with pytest.raises(ModelError, match=r"its first layer has weights .*relative_attention_bias"):
        keep_layers(t5, [1])
    uneven = BartForConditionalGeneration(
        BartConfig(**SIZES, encoder_layers=3, decoder_layers=2, decoder_attention_heads=2)
    )
    with pytest.raises(ModelError, match="The encoder and the decoder need the same number"):
        count_layers(uneven)
