"""The images of published models: taken as they say where the config is silent, and compared where it speaks."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification

from limbeck.config import config_from
from limbeck.errors import ConfigError
from limbeck.models import load_trained_model
from limbeck.run.classes import check_student, in_order_of_data
from limbeck.run.inputs import load_run_splits
from limbeck.run.training import build_seeded_model

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write forty images of two classes, and a model with its image processor."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(40):
        path = folder / "data" / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(path)
    sizes = {"embedding_size": 4, "hidden_sizes": [4], "depths": [1], "layer_type": "basic"}
    ResNetForImageClassification(ResNetConfig(**sizes, id2label={0: "cat", 1: "dog"})).save_pretrained(folder / "model")
    saved = {"image_mean": MEAN, "image_std": STD, "size": {"height": 8, "width": 8}, "resample": 3}
    (folder / "model" / "preprocessor_config.json").write_text(json.dumps(saved))
    return folder


def run_of(folder, *, teacher=None, student=None, **data):
    published = {"model": str(folder / "model")}
    return config_from(
        {
            "data": {"name": str(folder / "data"), **data},
            "teacher": teacher or published,
            "student": student or {"model": "resnet"},
        }
    )


def teacher_of(config, splits, folder):
    return in_order_of_data(load_trained_model(config.teacher, splits.shape), folder / "model", splits)


def test_what_the_config_leaves_open_is_as_the_teacher_was_trained(folder):
    config = run_of(folder)
    splits = load_run_splits(config)
    image = splits.preprocessing.image
    assert (image.size, list(image.mean), list(image.std)) == ((8, 8), MEAN, STD)
    assert [note for note in splits.notes if "preprocessor_config.json" in note]
    teacher_of(config, splits, folder)
    assert splits.notes[-1].startswith("Images are resized by bilinear interpolation; the teacher's were by bicubic")


def test_a_student_decides_where_the_teacher_does_not(folder):
    config = run_of(
        folder, teacher={"model": "resnet", "training": {"max_steps": 1}}, student={"model": str(folder / "model")}
    )
    assert list(load_run_splits(config).preprocessing.image.mean) == MEAN
    scratch = {"model": str(folder / "model"), "from_scratch": True}
    config = run_of(folder, teacher={"model": "resnet", "training": {"max_steps": 1}}, student=scratch)
    assert load_run_splits(config).preprocessing.image.mean == 0.0


def test_another_normalisation_is_refused_of_a_teacher_and_noted_of_a_student(folder):
    config = run_of(folder, mean=0.0, image_size=6, student={"model": str(folder / "model")})
    splits = load_run_splits(config)
    assert (splits.preprocessing.image.mean, splits.preprocessing.image.size) == (0.0, (6, 6))
    with pytest.raises(
        ConfigError, match=r"^data\.mean: the teacher was trained with .*0\.5.*, says .*preprocessor_config.json"
    ):
        teacher_of(config, splits, folder)
    assert "The teacher was trained on images of 8 x 8" in " ".join(splits.notes)
    check_student(build_seeded_model(config.student, splits, 0), splits)
    assert splits.notes[-1].startswith("student.model: its weights were trained with mean [0.5, 0.4, 0.3]")


def test_data_that_are_no_such_images_keep_their_own_words(folder):
    config = config_from(
        {"data": {"name": "digits"}, "teacher": {"model": str(folder / "model")}, "student": {"model": "mlp"}}
    )
    splits = load_run_splits(config)
    assert splits.preprocessing.image.mean == 0.0
    with pytest.raises(ConfigError, match=r"data\.mean: the teacher was trained with"):
        teacher_of(config, splits, folder)
