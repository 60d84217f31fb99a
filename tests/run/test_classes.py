"""Columns and classes where a run's models meet its data: by name, by width, or not at all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from limbeck.config import config_from
from limbeck.data import DataConfig, load_splits
from limbeck.errors import ConfigError, ModelError
from limbeck.evaluation import predict_logits
from limbeck.models import MLP, DataShape, ModelConfig, save_model
from limbeck.run.classes import check_student, in_order_of_data
from limbeck.run.opening import open_run
from limbeck.run.teacher import load_or_train_teacher, load_run_teacher
from limbeck.run.training import build_seeded_model, train
from support.texts import BAD, FILLER, GOOD, word_tokenizer, write_models, write_reviews

NAMES = [str(i) for i in range(10)]


@pytest.fixture(scope="module")
def splits():
    return load_splits(DataConfig())


class Named(nn.Module):
    """A teacher with a config that names its classes; its logits are the first pixels, one for each class."""

    def __init__(self, names):
        super().__init__()
        self.config = type("Config", (), {"id2label": dict(enumerate(names))})()
        self.names = names

    def forward(self, pixel_values):
        # The logit of a class is a function of its name alone, so that the order of the columns can be checked.
        pixels = pixel_values.flatten(1)
        return torch.stack(
            [pixels[:, 7 * int(name) % 64] if name in NAMES else pixels[:, 0] for name in self.names], -1
        )


@given(st.permutations([*NAMES, "ten", "eleven"]))
@settings(max_examples=20)
def test_any_order_and_more_classes_come_back_to_the_order_of_the_data(splits, names):
    expected = predict_logits(Named(NAMES), splits.validation)
    got = predict_logits(in_order_of_data(Named(names), None, splits), splits.validation)
    assert torch.equal(got, expected)


def test_what_is_left_out_is_noted(splits):
    before = len(splits.notes)
    in_order_of_data(Named([*reversed(NAMES), "ten"]), None, splits)
    assert splits.notes[before:] == [
        "The teacher's classes stand in another order than the data's; they are matched by name. "
        "1 of its 11 classes are not in the data and are left out."
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[:9], r"teacher.model: the config of teacher.model lacks 1 of the 10 classes of the data: '9'"),
        ([*NAMES[:9], "nine"], r"lacks 1 of the 10 classes"),
        ([f"LABEL_{i}" for i in range(1000)], r"has 1000 output columns without names, and the data has 10"),
        ([*NAMES, "0"], r"has the name '0' for several classes"),
    ],
)
def test_other_classes_are_refused(splits, names, message):
    with pytest.raises(ConfigError, match=message):
        in_order_of_data(Named(names), None, splits)


def test_generic_names_count_as_numbers(splits):
    teacher = Named([f"LABEL_{i}" for i in range(10)])
    assert in_order_of_data(teacher, None, splits) is teacher


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, pixel_values):
        return self.logits.expand(len(pixel_values), *self.logits.shape[1:])


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(1, 1000), "student.model: has 1000 output columns, and the data has 10 classes"),
        (torch.zeros(1, 1), "has 1 output columns"),
        (torch.zeros(1, 10, 4, 4), r"returned logits of shape \(8, 10, 4, 4\) for 8 examples"),
        (torch.full((1, 10), torch.inf), "are not finite"),
        (torch.full((1, 10), torch.nan), "are not finite"),
    ],
)
def test_a_student_that_does_not_fit_is_refused_before_it_is_trained(splits, logits, message):
    with pytest.raises(ConfigError, match=message):
        check_student(Fixed(logits), splits)


def test_a_run_whose_student_has_another_width_writes_nothing(tmp_path, monkeypatch):
    (tmp_path / "wide.py").write_text(
        "from torch import nn\ndef wide():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = config_from({
        "out": str(tmp_path / "run"), "data": {"labelled": 100}, "student": {"model": "wide:wide"},
        "teacher": {"model": "mlp", "training": {"max_steps": 1}},
    })  # fmt: skip
    with pytest.raises(ConfigError, match=r"student\.model: has 1000 output columns"):
        open_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def hub_teacher(folder, names):
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic",
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    torch.manual_seed(0)
    model = ResNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    return model


def test_a_hugging_face_teacher_in_another_order(splits, tmp_path):
    names = list(reversed(NAMES))
    saved = hub_teacher(tmp_path / "hub", names)
    config = config_from({"teacher": {"model": str(tmp_path / "hub")}, "student": {"model": "mlp"}})
    teacher = load_or_train_teacher(config, splits, tmp_path)
    images = splits.validation.as_one_batch()["pixel_values"][:8]
    with torch.no_grad():
        expected = saved(images).logits
    got = predict_logits(teacher, splits.validation.subset(torch.arange(8)))
    torch.testing.assert_close(got, expected.flip(-1))


def test_a_hugging_face_teacher_of_images_with_another_normalisation(splits, tmp_path):
    hub_teacher(tmp_path / "hub", NAMES)
    config = config_from({"teacher": {"model": str(tmp_path / "hub")}, "student": {"model": "mlp"}})
    file = tmp_path / "hub" / "preprocessor_config.json"
    file.write_text('{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.5, 0.5, 0.5]}')
    with pytest.raises(ConfigError) as caught:
        load_or_train_teacher(config, splits, tmp_path)
    mean, std = caught.value.faults
    assert mean.startswith("data.mean: the teacher was trained with [0.485, 0.456, 0.406], says ")
    assert mean.endswith("preprocessor_config.json, and the data has 0.0. Set data.mean: [0.485, 0.456, 0.406].")
    assert std.endswith("and the data has 1.0. Set data.std: 0.5.")
    file.write_text('{"do_normalize": false}')
    load_or_train_teacher(config, splits, tmp_path)


def test_a_checkpoint_without_a_head_is_refused(splits, tmp_path):
    hub_teacher(tmp_path / "hub", NAMES).resnet.save_pretrained(tmp_path / "body")
    config = config_from({"teacher": {"model": str(tmp_path / "body")}, "student": {"model": "mlp"}})
    with pytest.raises(ModelError, match="no trained weights for classifier"):
        load_or_train_teacher(config, splits, tmp_path)


def test_a_function_that_draws_its_weights_is_no_teacher(splits, tmp_path, monkeypatch):
    (tmp_path / "makers.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def drawn(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
        "def loaded(num_classes):\n    model = drawn(num_classes)\n    nn.init.eye_(model[1].weight)\n"
        "    nn.init.zeros_(model[1].bias)\n    return model\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def teacher(name):
        config = config_from({"teacher": {"model": f"makers:{name}"}, "student": {"model": "mlp"}})
        return load_or_train_teacher(config, splits, tmp_path)

    with pytest.raises(ModelError, match="its weights are drawn at random"):
        teacher("drawn")
    assert teacher("loaded")[1].weight.shape == (10, 64)


def test_from_scratch_is_no_teacher(splits, tmp_path):
    hub_teacher(tmp_path / "hub", NAMES)
    values = {"model": str(tmp_path / "hub"), "from_scratch": True}
    with pytest.raises(ConfigError, match="has no weights yet"):
        load_or_train_teacher(config_from({"teacher": values, "student": {"model": "mlp"}}), splits, tmp_path)


def test_a_runs_own_teacher_is_matched_by_the_names_beside_it(splits, tmp_path):
    spec, shape = ModelConfig("mlp", {"hidden": [8]}), DataShape(10, (1, 8, 8))
    model = MLP(64, 10, hidden=[8]).eval()
    save_model(model, tmp_path / "teacher", spec, shape)
    splits.preprocessing.save(tmp_path / "teacher")
    path = tmp_path / "teacher" / "inputs.json"
    names = ", ".join(f'"{name}"' for name in reversed(NAMES))
    path.write_text('{"labels": [' + names + '], "image": null, "max_length": 128}')
    expected = predict_logits(model, splits.validation).flip(-1)
    assert torch.equal(predict_logits(load_run_teacher(tmp_path, splits), splits.validation), expected)
    path.write_text("[")
    with pytest.raises(ConfigError, match=r"inputs\.json cannot be read"):
        load_run_teacher(tmp_path, splits)


class TestTokens:
    """Models of a config read the ids of data.tokenizer: one with trained weights for other ids is refused before training."""

    @pytest.fixture
    def shop(self, tmp_path):
        write_models(tmp_path, teacher=8, student=8)
        write_reviews(tmp_path / "reviews.csv")
        word_tokenizer([*FILLER, *GOOD, *BAD], model_max_length=16).save_pretrained(tmp_path / "other")
        return tmp_path

    def config(self, shop, *, tokenizer="teacher", **changed):
        return config_from(
            {
                "data": {"name": str(shop / "reviews.csv"), "tokenizer": str(shop / tokenizer)},
                "teacher": {"model": str(shop / "teacher")},
                "student": {"model": str(shop / "student"), "from_scratch": True},
                "training": {"max_steps": 1},
                **changed,
            }
        )

    def test_one_tokenizer_passes(self, shop):
        assert open_run(self.config(shop), shop / "run").teacher is not None

    @pytest.mark.parametrize(
        ("changed", "key"),
        [
            ({}, "teacher.model"),
            ({"teacher": {"model": "TEACHER", "training": {"max_steps": 1}}}, "teacher.model"),
            ({"student": {"model": "TEACHER"}}, "student.model"),
        ],
    )
    def test_the_same_words_with_other_ids_are_refused(self, shop, changed, key):
        given = {name: {**part, "model": str(shop / "teacher")} for name, part in changed.items()}
        with pytest.raises(
            ConfigError, match=rf"{key}: 11 ids do not .* '\w+' for the tokenizer saved .* data.tokenizer"
        ):
            open_run(self.config(shop, tokenizer="other", **given), shop / "run")
        assert not (shop / "run").exists()

    def test_weights_that_are_drawn_here_have_no_tokens_of_their_own(self, shop):
        teacher = {"model": str(shop / "teacher"), "from_scratch": True, "training": {"max_steps": 1}}
        config = self.config(shop, tokenizer="other", teacher=teacher, out=str(shop / "run"))
        opened = open_run(config, shop / "run")
        trained = load_or_train_teacher(config, opened.splits, shop / "run")
        student = build_seeded_model(config.student, opened.splits, 0)
        train(student, trained, opened.splits.train, config, folder=shop / "run" / "checkpoints")
        assert load_run_teacher(shop / "run", opened.splits) is not None
