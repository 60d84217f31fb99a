"""Models of timm and torchvision by name. The tests of the real libraries run where these can be imported beside torch."""

import importlib
import sys
import types

import pytest
import torch

from limbeck.errors import ArgumentError, ModelError
from limbeck.models import (
    DataShape,
    ModelConfig,
    build_model,
    class_names_in_config,
    input_format_of,
    load_model,
    load_trained_model,
    model_faults,
    save_model,
)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SHAPE = DataShape(3, (3, 32, 32))
SMALL = {"timm": ("timm:test_resnet", {}), "torchvision": ("torchvision:shufflenet_v2_x0_5", {})}


@pytest.fixture(params=list(SMALL))
def named(request):
    """Return the name and the settings of a small model, or skip the test."""
    try:
        importlib.import_module(request.param)
    except (ImportError, RuntimeError) as error:  # a torchvision of another build of torch
        pytest.skip(f"{request.param}: {error}")
    return SMALL[request.param]


def publish(name, monkeypatch, folder):
    """Let the library find weights of 1,000 classes in a folder, and return them."""
    torch.manual_seed(1)
    model = build_model(ModelConfig(name), DataShape(1000, (3, 32, 32)))
    if name.startswith("timm:"):
        from safetensors.torch import save_file

        path = folder / "published.safetensors"
        save_file(model.state_dict(), str(path))
        import timm.models._builder as builder

        monkeypatch.setattr(builder, "load_state_dict_from_hf", lambda *_, **__: torch_load(path))
    else:
        from torchvision.models import get_model_weights

        (folder / "hub" / "checkpoints").mkdir(parents=True)
        url = get_model_weights(name.partition(":")[2]).DEFAULT.url
        torch.save(model.state_dict(), folder / "hub" / "checkpoints" / url.rpartition("/")[2])
        monkeypatch.setenv("TORCH_HOME", str(folder))
    return model.state_dict()


def torch_load(path):
    from safetensors.torch import load_file

    return load_file(str(path))


def test_a_model_is_built_for_the_data_and_saved(named, tmp_path):
    name, settings = named
    config = ModelConfig(name, settings)
    model = build_model(config, SHAPE).eval()
    images = torch.rand(2, 3, 32, 32)
    assert model(images).shape == (2, 3)
    assert input_format_of(model) is None
    assert config.input_format() is None
    save_model(model, tmp_path, config, SHAPE)
    assert torch.equal(load_model(tmp_path)(images), model(images))


def test_published_weights_keep_their_head_or_get_a_new_one(named, tmp_path, monkeypatch):
    name, settings = named
    published = publish(name, monkeypatch, tmp_path)
    config = ModelConfig(name, settings, pretrained=True)
    teacher = load_trained_model(config, SHAPE)
    assert not teacher.training
    assert all(torch.equal(value, published[key]) for key, value in teacher.state_dict().items())
    student = build_model(config, SHAPE)
    changed = [key for key, value in student.state_dict().items() if value.shape != published[key].shape]
    assert [key.rpartition(".")[2] for key in changed] == ["weight", "bias"]
    assert all(torch.equal(value, published[key]) for key, value in student.state_dict().items() if key not in changed)
    assert student.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert class_names_in_config(student) is None
    save_model(student, tmp_path / "saved", config, SHAPE)
    assert set(load_model(tmp_path / "saved").state_dict()) == set(published)
    for model in (teacher, student):
        assert input_format_of(model) == config.input_format()


def test_imagenet_is_known_by_its_normalisation_and_its_classes(named, tmp_path, monkeypatch):
    name, settings = named
    publish(name, monkeypatch, tmp_path)
    found = ModelConfig(name, settings, pretrained=True).input_format()
    if name.startswith("torchvision:"):
        assert (found.mean, found.std) == IMAGENET
        assert (found.size, found.resample) == ((224, 224), "bilinear")
        names = class_names_in_config(load_trained_model(ModelConfig(name, settings, pretrained=True), SHAPE)).names
        assert (len(names), names[0], names[-1]) == (1000, "tench", "toilet tissue")
    else:
        import timm

        cfg = timm.get_pretrained_cfg("test_resnet")
        assert (found.mean, found.std, found.size) == (cfg.mean, cfg.std, cfg.input_size[1:])


def test_a_name_that_the_library_lacks(named):
    library = named[0].partition(":")[0]
    with pytest.raises(ModelError, match=f"^model '{library}:resnte18': .*resnte18|no image classifier"):
        build_model(ModelConfig(f"{library}:resnte18"), SHAPE)
    with pytest.raises(ModelError, match=f"^model '{named[0]}': .*unexpected keyword argument 'widht'"):
        build_model(ModelConfig(named[0], {"widht": 3}), SHAPE)


def test_a_torchvision_of_another_build_is_told(monkeypatch):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise AssertionError

    real = importlib.import_module

    def broken(name, *rest):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *rest)

    monkeypatch.setitem(sys.modules, "torchvision", Broken("torchvision"))
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModelError, match=r"torchvision cannot be imported: operator .* install both from one index"):
        build_model(ModelConfig("torchvision:resnet18"), SHAPE)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
class TestWithoutTheLibrary:
    def test_the_channels_and_the_kind_of_data(self, library):
        name = f"{library}:resnet18"
        with pytest.raises(ModelError, match=r"3 channels, and the data has 1\. Set data\.channels: 3"):
            build_model(ModelConfig(name, pretrained=True), DataShape(3, (1, 8, 8)))
        with pytest.raises(ModelError, match="takes images"):
            build_model(ModelConfig(name), DataShape(3))

    def test_a_teacher_without_weights(self, library):
        with pytest.raises(ModelError, match=r"has no weights yet.*pretrained: true"):
            load_trained_model(ModelConfig(f"{library}:resnet18"), SHAPE)

    def test_settings_that_would_load_other_files_or_another_head(self, library):
        assert list(model_faults(ModelConfig(f"{library}:resnet18", {"num_classes": 7}))) == ["settings.num_classes"]
        with pytest.raises(ModelError, match=r"settings\.checkpoint_path: follows from"):
            build_model(ModelConfig(f"{library}:resnet18", {"checkpoint_path": "x.pth"}), SHAPE)
        assert list(model_faults(ModelConfig(f"{library}:hf-hub:someone/resnet18"))) == ["model"]
        assert model_faults(ModelConfig(f"{library}:resnet18")) == {}


def test_pretrained_is_for_the_libraries():
    with pytest.raises(ArgumentError, match=r"^pretrained: is for models of timm and torchvision"):
        ModelConfig("mlp", pretrained=True)
