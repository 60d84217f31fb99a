"""What is wrong with a model's name and settings, told before a model is built or a hub is asked."""

import re

import pytest

from limbeck.errors import ModelError
from limbeck.models import DataShape, ModelConfig, build_model, model_faults, save_model

MODULE = """
def strict(classes, width=4):
    raise AssertionError("a function is not called")

def free(**settings):
    raise AssertionError("a function is not called")
"""


@pytest.fixture
def bert(tmp_path):
    from transformers import BertConfig

    BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        (ModelConfig("mlp", {"hiden": [8]}), "settings.hiden", "unknown argument, did you mean hidden?"),
        (ModelConfig("resnte"), "model", "expected one of mlp, cnn, resnet, .*, got 'resnte'. Did you mean resnet?"),
        (ModelConfig("runs/first/student"), "model", "expected one of mlp, .* a folder with a config.json, "),
        (ModelConfig("my model"), "model", "expected one of mlp, .*, got 'my model'"),
        (ModelConfig("no_such_module:build"), "model", "No module named 'no_such_module'. Expected package.module:fun"),
        (ModelConfig("os:no_such_function"), "model", ".*no_such_function.* Expected package.module:function"),
        (ModelConfig("os:sep"), "model", "expected a function, got str"),
        (ModelConfig(":build"), "model", ".*Expected package.module:function"),
        (
            ModelConfig("named_models:strict", {"widht": 3}),
            "settings.widht",
            "unknown argument, did you mean width?",
        ),
    ],
    ids=str,
)
def test_a_fault_names_its_key(config, key, message, tmp_path, monkeypatch):
    (tmp_path / "named_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    faults = model_faults(config)
    assert list(faults) == [key]
    assert re.match(message, faults[key])
    assert model_faults(ModelConfig("named_models:free", {"anything": 1})) == {}


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "gpt2", "microsoft/resnet-18", "bert-base-uncased"])
def test_names_that_could_be_right(name):
    assert model_faults(ModelConfig(name)) == {}


def test_settings_of_a_hugging_face_folder(bert):
    good = {"num_hidden_layers": 2, "num_labels": 3, "hidden_dropout_prob": 0.5}
    assert model_faults(ModelConfig(bert, good)) == {}
    assert model_faults(ModelConfig(bert, {"num_hiden_layers": 2, "hidden_droput_prob": 0})) == {
        "settings.num_hiden_layers": "unknown entry of BertConfig, did you mean num_hidden_layers?",
        "settings.hidden_droput_prob": "unknown entry of BertConfig, did you mean hidden_dropout_prob?",
    }
    with pytest.raises(ModelError, match="num_hiden_layers: unknown entry of BertConfig"):
        build_model(ModelConfig(bert, {"num_hiden_layers": 2}, from_scratch=True), DataShape(2))
    for settings, message in (({"hidden_size": "large"}, "expected int, got str"), ({"hidden_act": "gleu"}, "gleu")):
        with pytest.raises(ModelError, match=message):
            build_model(ModelConfig(bert, settings, from_scratch=True), DataShape(2))


def test_settings_of_a_config_inside_of_a_config(tmp_path):
    from transformers import SiglipConfig

    SiglipConfig().save_pretrained(tmp_path)
    settings = {"vision_config": {"hidden_size": 8, "hiden_size": 8}}
    assert list(model_faults(ModelConfig(str(tmp_path), settings))) == ["settings.vision_config.hiden_size"]


def test_other_names_of_an_entry(tmp_path):
    from transformers import GPT2Config

    GPT2Config().save_pretrained(tmp_path)
    assert model_faults(ModelConfig(str(tmp_path), {"hidden_size": 8, "n_layer": 1})) == {}


def test_settings_have_no_effect_on_a_model_that_limbeck_saved(tmp_path):
    config, shape = ModelConfig("mlp", {"hidden": [4]}), DataShape(2, (1, 2, 2))
    save_model(build_model(config, shape), tmp_path, config, shape)
    assert model_faults(ModelConfig(str(tmp_path))) == {}
    assert list(model_faults(ModelConfig(str(tmp_path), {"hidden": [8]}))) == ["settings"]


def test_folders_that_hold_no_model(tmp_path):
    assert "has no config.json" in model_faults(ModelConfig(str(tmp_path)))["model"]
    (tmp_path / "config.json").write_text("{")
    assert "not JSON" in model_faults(ModelConfig(str(tmp_path)))["model"]
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}')
    assert "custom code" in model_faults(ModelConfig(str(tmp_path)))["model"]
