"""The heads of language models: each family of Transformers against its own forward."""

import copy

import pytest
import torch
import transformers
from torch import nn

from limbeck.errors import ModelError
from limbeck.models import heads
from limbeck.models.heads import find_head
from support.language import llama

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # PEFT asks for it
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),  # GPTBigCode uses it
]
SIZES = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8, "initializer_range": 0.5, "bos_token_id": None,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
LIKE_GPT = {
    "vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "hidden_size": 16, "num_hidden_layers": 2,
    "bos_token_id": None, "eos_token_id": 1, "initializer_range": 0.5,
}  # fmt: skip
FAMILIES = {
    "Llama": {}, "Mistral": {}, "Qwen2": {"tie_word_embeddings": True}, "Qwen3": {}, "Gemma": {}, "StableLm": {}, "Olmo": {},
    "Olmo2": {}, "SmolLM3": {}, "Starcoder2": {}, "Phi": {}, "Phi3": {}, "Glm4": {}, "Ernie4_5": {}, "Helium": {},
    "Gemma2": {"final_logit_softcapping": 3.0},
    "Gemma3": {"config": "Gemma3TextConfig", "final_logit_softcapping": 3.0},
    "Cohere": {"logit_scale": 0.0625}, "Cohere2": {"logit_scale": 0.3}, "Granite": {"logits_scaling": 6.0},
    "MiniCPM3": {
        "dim_model_base": 8, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8,
    },
    "HyperCLOVAX": {"logits_scaling": 0.4},
    "FalconH1": {
        "lm_head_multiplier": 0.3, "mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 8,
        "mamba_chunk_size": 8, "projectors_bias": False,
    },
    "GPT2": {"model": "GPT2LMHeadModel", **LIKE_GPT}, "GPTJ": {**LIKE_GPT, "rotary_dim": 4},
    "GPTNeo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    "GPTNeoX": {}, "GPTBigCode": LIKE_GPT, "Bloom": LIKE_GPT,
    "CodeGen": {**LIKE_GPT, "n_head": 4, "num_attention_heads": 4, "rotary_dim": 4},
    "Falcon": {"head_dim": None}, "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "Mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": 64},
    "Mamba": {"state_size": 4, "time_step_rank": 4}, "Mixtral": {"num_local_experts": 2},
    "Qwen2Moe": {"num_experts": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "num_experts_per_tok": 1},
}  # fmt: skip
"""The families of causal language models, each with what its tiny config has beside ``SIZES``."""


def tiny(family, **changed):
    """Return an untrained model of a family; skip where this Transformers does not have it."""
    changed = {**FAMILIES[family], **changed}
    model = getattr(transformers, changed.pop("model", f"{family}ForCausalLM"), None)
    config = getattr(transformers, changed.pop("config", f"{family}Config"), None)
    if model is None or config is None:
        pytest.skip(f"Transformers {transformers.__version__} has no {family}")
    torch.manual_seed(0)
    settings = {name: value for name, value in (SIZES | changed).items() if (name, value) != ("head_dim", None)}
    return model(config(**settings)).eval()


def tokens():
    return {"input_ids": torch.arange(2, 24).view(2, 11), "attention_mask": torch.ones(2, 11, dtype=torch.long)}


@torch.no_grad()
def logits_in_pieces(head, model, batch):
    """Return the logits of a batch, two positions at a time, and those that the fused losses project."""

    def both(hidden):
        unprojected = head.unprojected(hidden)
        rows = unprojected.hidden.flatten(0, 1)
        out = rows.new_empty(len(rows), len(unprojected.layer.weight))
        parts = [head.logits(hidden[:, part]) for part in head.parts(hidden)]
        return torch.cat(parts, 1), unprojected.layer.logits(rows, out).view(2, 11, -1)

    return head.run(lambda: model(**batch), both)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_of_a_family_gives_the_logits_of_its_own_forward(family, monkeypatch):
    monkeypatch.setattr(heads, "rows_in_chunk", lambda *_: 4)
    model, batch = tiny(family), tokens()
    head = find_head(model, batch)
    with torch.no_grad():
        expected = model(**batch).logits
    for found in logits_in_pieces(head, model, batch):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("family", "changed", "scale", "softcap"),
    [
        ("Cohere", {"logit_scale": 0.0625}, 0.0625, None),
        ("Cohere", {"logit_scale": 1.0}, 1, None),
        ("Granite", {"logits_scaling": 6.0}, 1 / 6, None),
        ("FalconH1", {}, 0.3, None),
        ("Gemma2", {"final_logit_softcapping": 30.0}, 1, 30.0),
        ("Gemma2", {"final_logit_softcapping": None}, 1, None),
    ],
)
def test_scale_and_cap_are_those_of_the_config(family, changed, scale, softcap):
    head = find_head(tiny(family, **changed), tokens())
    assert head.scale == pytest.approx(scale, rel=1e-6)
    assert (head.softcap is None) if softcap is None else head.softcap == pytest.approx(softcap, rel=1e-6)


def test_half_precision_does_not_blur_the_scale():
    head = find_head(tiny("Granite").bfloat16(), tokens())
    assert head.scale == pytest.approx(1 / 6, rel=1e-6)


def test_a_subclass_of_a_model_is_found_by_what_it_does():
    class Halved(transformers.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits / 2
            return output

    model = Halved(transformers.LlamaConfig(**SIZES)).eval()
    assert find_head(model, tokens()).scale == pytest.approx(0.5)


class Changed(transformers.LlamaForCausalLM):
    """A language model that does something else with its logits."""

    def __init__(self, change):
        super().__init__(transformers.LlamaConfig(**SIZES))
        self.change = change

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = self.change(output.logits)
        return output


def one_token_masked(logits):
    return logits.index_fill(-1, torch.tensor([3]), -1e4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_token_masked, "more with its logits"),
        (lambda logits: logits.relu(), "no scale and no soft-cap"),
        (lambda logits: logits + 1, "no scale and no soft-cap"),
        (lambda logits: logits.log_softmax(-1), "no scale and no soft-cap"),
        (lambda logits: logits.roll(1, -1), "not those of its last layer"),
        (lambda logits: logits[:, -1:], "does not return the output"),
    ],
)
def test_what_is_no_scale_and_no_cap_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        find_head(Changed(change).eval(), tokens())


def test_other_models_are_refused_with_the_reason():
    with pytest.raises(ModelError, match="no language model"):
        find_head(nn.Linear(3, 4), tokens())
    with pytest.raises(ModelError, match="no input_ids"):
        find_head(llama(), {"inputs_embeds": torch.zeros(1, 3, 16)})
    learned = llama()
    learned.factor = nn.Parameter(torch.ones(()))
    with pytest.raises(ModelError, match="trains the number factor"):
        find_head(learned, tokens())
    quantised = llama()
    quantised.lm_head.forward = lambda hidden: nn.functional.linear(hidden, 2 * quantised.lm_head.weight)
    with pytest.raises(ModelError, match="not those of its last layer"):
        find_head(quantised, tokens())


def test_finding_leaves_the_model_as_it_was():
    model = llama().train()
    model.model.layers[0].eval()
    modes, state = [part.training for part in model.modules()], copy.deepcopy(model.state_dict())
    find_head(model, tokens())
    assert [part.training for part in model.modules()] == modes
    assert "forward" not in vars(model.lm_head)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_adapters_on_the_head_are_part_of_it(dropout):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        llama(),
        peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"], lora_dropout=dropout, init_lora_weights=False),
    ).train()
    batch = tokens()
    head = find_head(model, batch)
    torch.manual_seed(0)
    expected = model(**batch).logits
    torch.manual_seed(0)
    unprojected = head.run(lambda: model(**batch), head.unprojected)
    found = unprojected.hidden @ unprojected.layer.weight.T
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    direction = torch.randn_like(expected)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    ours, theirs = (torch.autograd.grad((logits * direction).sum(), trained) for logits in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_an_adapter_that_is_more_than_a_product_is_refused():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["lm_head"], use_dora=True))
    with pytest.raises(ModelError, match="low rank"):
        find_head(model, tokens())
    copied = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    find_head(copied, tokens())


def test_a_loss_in_the_place_of_the_logits_has_its_own_gradient():
    model, batch = tiny("Cohere2"), tokens()
    head = find_head(model, batch)
    model(**batch).logits.square().mean().backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    loss = head.run(lambda: model(**batch), lambda hidden: head.logits(hidden).square().mean())
    loss.backward()
    assert loss.item() == pytest.approx(model(**batch).logits.square().mean().item())
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-4, atol=1e-7)
