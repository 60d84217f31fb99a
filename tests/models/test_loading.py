import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel

from limbeck.errors import ArgumentError, ModelError
from limbeck.models import MLP, DataShape, ModelConfig, build_model, functions_of, load_model, save_model

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
    assert torch.equal(load_model(tmp_path / "saved", model="my_models:small")[1].weight, model[1].weight)
    with pytest.raises(ModelError, match=r"my_models:wrong.*torch\.nn\.Module.*int"):
        build_model(ModelConfig("my_models:wrong"), SHAPE)
    with pytest.raises(ModelError, match=r"my_models:absent.*package\.module:function"):
        build_model(ModelConfig("my_models:absent"), SHAPE)


class TestAFolderIsData:
    """What a folder names is built only if it is built in, or if the caller names it as well."""

    @pytest.fixture
    def saved(self, tmp_path, monkeypatch):
        (tmp_path / "theirs.py").write_text(
            "from pathlib import Path\nfrom torch import nn\n"
            f"def make(units=4):\n    Path({str(tmp_path / 'called')!r}).touch()\n    return nn.Linear(units, 3)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "theirs", raising=False)
        save_model(nn.Linear(5, 3), tmp_path / "saved", ModelConfig("theirs:make", {"units": 5}))
        return tmp_path / "saved"

    @pytest.mark.parametrize("named", [None, (), "theirs:other", ["mlp", "make"], "theirs"])
    def test_a_function_that_the_caller_does_not_name_is_not_called(self, saved, named):
        with pytest.raises(ModelError, match=r"'theirs:make'.*load_model\(folder, model='theirs:make'\).*--function"):
            load_model(saved, model=named)
        assert not (saved.parent / "called").exists()

    @pytest.mark.parametrize("named", ["theirs:make", ["mlp", "theirs:make"]])
    def test_a_function_that_the_caller_names_is_called(self, saved, named):
        assert load_model(saved, model=named).in_features == 5
        assert (saved.parent / "called").exists()

    def test_a_config_names_the_function_of_its_folder(self, saved):
        with pytest.raises(ModelError, match="function: theirs:make beside model:"):
            build_model(ModelConfig(str(saved)), SHAPE)
        config = ModelConfig(str(saved), function="theirs:make")
        assert build_model(config, SHAPE).in_features == 5
        assert functions_of(config) == ["theirs:make"]
        assert functions_of(ModelConfig("theirs:make")) == ["theirs:make"]
        assert functions_of(ModelConfig("mlp")) == functions_of(ModelConfig(str(saved))) == []

    @given(name=st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()), st.from_regex(r"\w+:\w+")))
    @settings(max_examples=50, deadline=None)
    def test_no_other_name_is_followed(self, name):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps({"limbeck_model": name}))
            assume(name not in ("mlp", "cnn", "resnet"))
            with pytest.raises(ModelError, match="is not built in"):
                load_model(folder)

    def test_a_model_from_a_folder_is_saved_as_what_it_is(self, tmp_path):
        spec = ModelConfig("mlp", {"hidden": [5]})
        save_model(build_model(spec, SHAPE), tmp_path / "first", spec, SHAPE)
        again = ModelConfig(str(tmp_path / "first"))
        save_model(build_model(again, SHAPE), tmp_path / "second", again, SHAPE)
        shutil.rmtree(tmp_path / "first")
        assert load_model(tmp_path / "second")[1].out_features == 5

    def test_remote_code_and_classes_that_are_no_models_are_refused(self, tmp_path):
        (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'called')!r}, 'w')\n")
        for config in (
            {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}},
            {"model_type": "bert", "architectures": ["AutoTokenizer"]},
            {"model_type": "bert", "architectures": ["pipeline"]},
        ):
            (tmp_path / "config.json").write_text(json.dumps(config))
            with pytest.raises(ModelError):
                load_model(tmp_path)
        assert not (tmp_path / "called").exists()


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


class Own(nn.Module, PyTorchModelHubMixin):
    """A model that saves itself, with a card of its own."""

    def __init__(self, units: int = 5):
        super().__init__()
        self.layer = nn.Linear(4, units)


class TestSavingRemovesNothing:
    """What ``save_model`` did not write stays, whichever way the model is saved."""

    @pytest.mark.parametrize("model", [Own(), nn.Linear(4, 5)], ids=["saves itself", "plain"])
    def test_foreign_files_stay(self, model, tmp_path):
        foreign = {"notes.txt": "mine", "README.md": "my card", "checkpoint-2/state": "x", "model.safetensors.txt": "y"}
        for name, content in foreign.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        for _ in range(2):
            save_model(model, tmp_path)
        assert {name: (tmp_path / name).read_text() for name in foreign} == foreign
        assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    def test_an_error_in_the_middle_leaves_the_weights_that_were_there(self, tmp_path):
        class Breaks(Own):
            def save_pretrained(self, folder):
                super().save_pretrained(folder)
                raise OSError("no space left")

        save_model(Own(), tmp_path)
        before = (tmp_path / "model.safetensors").read_bytes()
        with pytest.raises(OSError, match="no space left"):
            save_model(Breaks(), tmp_path)
        assert (tmp_path / "model.safetensors").read_bytes() == before

    def test_the_weights_of_an_earlier_model_are_not_taken_for_the_new_ones(self, tmp_path):
        """A loader takes ``model.safetensors`` first, whatever the index says."""
        settings = dict(vocab_size=16, hidden_size=8, num_attention_heads=1, intermediate_size=8)
        small, large = (BertModel(BertConfig(**settings, num_hidden_layers=layers)) for layers in (1, 2))
        save_model(small, tmp_path)
        split = large.save_pretrained
        large.save_pretrained = lambda folder: split(folder, max_shard_size="1KB")
        save_model(large, tmp_path)
        assert not (tmp_path / "model.safetensors").exists()
        loaded = BertModel.from_pretrained(tmp_path).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in large.state_dict().items())
        save_model(small, tmp_path)
        assert [path.name for path in sorted(tmp_path.glob("model*"))] == ["model.safetensors"]


def rows_network(features, classes):
    """A user's own network for the rows of a table."""
    return torch.nn.Linear(features, classes)


def test_a_network_for_rows_knows_their_width(tmp_path):
    shape, name = DataShape(3, features=5), f"{__name__}:rows_network"
    for model, allowed in (("mlp", None), (name, name)):
        built = build_model(ModelConfig(model), shape)
        save_model(built, tmp_path / model[:3], ModelConfig(model), shape)
        rows = torch.rand(2, 5)
        assert torch.equal(load_model(tmp_path / model[:3], model=allowed)(rows), built.eval()(rows))
    for model in ("cnn", "resnet"):
        with pytest.raises(ModelError, match=r"takes images, but the data are a table\. Name mlp"):
            build_model(ModelConfig(model), shape)
