import json

import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.models import (
    CNN,
    MLP,
    DataShape,
    ModelConfig,
    ResNet,
    build_model,
    count_parameters,
    forward_logits,
    load_model,
    save_model,
)

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


def test_resnet_has_the_layers_that_its_paper_counts():
    model = ResNet(3, 10, width=16, blocks=3)
    in_path = [
        m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(in_path) == 6 * 3 + 2
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model.stages(model.stem(torch.randn(1, 3, 32, 32))).shape[-2:] == (8, 8)


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


def test_a_hugging_face_image_model(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=5
    )
    ResNetForImageClassification(config).save_pretrained(tmp_path / "hub")
    model = build_model(ModelConfig(str(tmp_path / "hub")), SHAPE, labels=["a", "b", "c"])
    logits = forward_logits(model, {"pixel_values": torch.randn(2, 1, 8, 8), "labels": torch.tensor([0, 1])})
    assert logits.shape == (2, 3)  # a new head, for other classes
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    save_model(model, tmp_path / "saved")
    save_model(model, tmp_path / "saved")  # again: the folder is replaced whole
    again = ResNetForImageClassification.from_pretrained(tmp_path / "saved")  # loadable without Limbeck
    assert torch.equal(again.classifier[1].weight, model.classifier[1].weight)
    assert type(load_model(tmp_path / "saved")) is ResNetForImageClassification
    fresh = build_model(ModelConfig(str(tmp_path / "hub"), from_scratch=True), SHAPE)
    assert not torch.equal(next(fresh.parameters()), next(model.parameters()))


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


class TestErrors:
    def test_settings_that_do_not_fit(self):
        with pytest.raises(ModelError, match=r"'mlp'.*widht"):
            build_model(ModelConfig("mlp", {"widht": 3}), SHAPE)
        with pytest.raises(ModelError, match=r"divisible by 4.*resnet"):
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


def test_cnn_and_resnet_differ_in_training_and_evaluation():
    for model in (CNN(1, 8, 3, width=4), ResNet(1, 3, width=4)):
        images = torch.randn(8, 1, 8, 8)
        assert not torch.equal(model.train()(images), model.eval()(images))
