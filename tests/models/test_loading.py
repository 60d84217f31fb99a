import json

import pytest
import torch
from torch import nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.models import MLP, DataShape, ModelConfig, build_model, load_model, save_model

SHAPE = DataShape(3, (1, 8, 8))


@pytest.mark.parametrize(
    "spec",
    [
        ModelConfig("mlp", {"hidden": [5, 4]}),
        ModelConfig("cnn", {"width": 4, "hidden": 8}),
        ModelConfig("resnet", {"width": 4, "blocks": 2}),
    ],
    ids=lambda spec: spec.model,
)
def test_a_built_in_network_is_saved_and_loaded(spec, tmp_path):
    model = build_model(spec, SHAPE)
    images = torch.randn(6, 1, 8, 8)
    model.train()(images)  # so that batch statistics are not the initial ones
    save_model(model, tmp_path / "model", spec, SHAPE)
    loaded = load_model(tmp_path / "model")
    assert not loaded.training
    assert torch.equal(loaded(images), model.eval()(images))
    assert loaded(images).shape == (6, 3)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_an_mlp_loads_into_plain_torch(tmp_path):
    from safetensors.torch import load_file

    model = MLP(64, 3, hidden=[5])
    save_model(model, tmp_path, ModelConfig("mlp", {"hidden": [5]}), SHAPE)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(plain(images), model(images))


def test_a_function_by_name_is_offered_what_the_data_ask_for(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "def small(classes, image, units=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(image[1] * image[2], units), nn.Linear(units, classes))\n"
        "def wrong():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = build_model(ModelConfig("my_models:small", {"units": 7}), SHAPE)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    assert model[1].out_features == 7
    save_model(model, tmp_path / "saved", ModelConfig("my_models:small", {"units": 7}), SHAPE)
    assert torch.equal(load_model(tmp_path / "saved")[1].weight, model[1].weight)
    with pytest.raises(ModelError, match=r"my_models:wrong.*torch\.nn\.Module.*int"):
        build_model(ModelConfig("my_models:wrong"), SHAPE)
    with pytest.raises(ModelError, match=r"my_models:absent.*package\.module:function"):
        build_model(ModelConfig("my_models:absent"), SHAPE)


class TestErrors:
    @pytest.mark.parametrize(
        ("argument", "value"), [("model", 3), ("settings", [1]), ("settings", None), ("from_scratch", "no")]
    )
    def test_fields_of_another_type(self, argument, value):
        with pytest.raises(ArgumentError) as caught:
            ModelConfig(**({"model": "mlp"} | {argument: value}))
        assert caught.value.argument == argument

    def test_fresh_weights_for_a_folder_that_has_its_own(self, tmp_path):
        save_model(MLP(64, 3), tmp_path, ModelConfig("mlp"), SHAPE)
        assert torch.equal(build_model(ModelConfig(str(tmp_path)), SHAPE)[1].weight, load_model(tmp_path)[1].weight)
        with pytest.raises(ModelError, match=r"from_scratch is for Hugging Face models"):
            build_model(ModelConfig(str(tmp_path), from_scratch=True), SHAPE)

    def test_settings_that_do_not_fit(self):
        with pytest.raises(ModelError, match=r"'mlp'.*widht"):
            build_model(ModelConfig("mlp", {"widht": 3}), SHAPE)
        with pytest.raises(ModelError, match=r"divisible by 4.*data\.image_size.*resnet"):
            build_model(ModelConfig("cnn"), DataShape(3, (1, 9, 9)))
        with pytest.raises(ModelError, match=r"'mlp' takes images.*text"):
            build_model(ModelConfig("mlp"), DataShape(3))

    def test_a_name_that_is_nothing(self):
        with pytest.raises(ModelError, match=r"no/such-model.*mlp, cnn, resnet.*Hugging Face"):
            build_model(ModelConfig("no/such-model"), SHAPE)

    def test_a_broken_folder(self, tmp_path):
        with pytest.raises(ModelError, match=r"no config\.json here"):
            load_model(tmp_path)
        model = MLP(64, 3)
        save_model(model, tmp_path, ModelConfig("mlp"), SHAPE)
        content = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(content[:100])
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            load_model(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
            load_model(tmp_path)
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ModelError, match="not JSON"):
            load_model(tmp_path)

    def test_other_weights(self, tmp_path):
        save_model(MLP(64, 3), tmp_path, ModelConfig("mlp"), SHAPE)
        config = json.loads((tmp_path / "config.json").read_text())
        config["settings"]["hidden"] = [7]
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="not the weights of this model"):
            load_model(tmp_path)
