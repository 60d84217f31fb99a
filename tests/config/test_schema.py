import ast
import dataclasses
import inspect

import pytest
from pydantic import BaseModel

from limbeck.config import CompareConfig, Config, DistillationConfig, TeacherConfig, config_from
from limbeck.data import Augmentation, DataConfig
from limbeck.errors import ArgumentError
from limbeck.models import ModelConfig
from limbeck.store import CacheConfig
from limbeck.temperature import SearchPlan

SECTIONS = [
    *(Config, TeacherConfig, ModelConfig, DataConfig, Augmentation, DistillationConfig),
    *(CompareConfig, SearchPlan, CacheConfig),
]


def described(cls):
    """The fields of a class that have a string below them."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    return {
        field.target.id
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def own_fields(cls):
    if issubclass(cls, BaseModel):
        return set(cls.model_fields)
    return {field.name for field in dataclasses.fields(cls) if field.name in cls.__annotations__}


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_every_key_is_described(cls):
    """The reference page of config keys shows these strings."""
    assert cls.__doc__
    assert described(cls) == own_fields(cls)


def test_the_defaults_of_a_config():
    config = config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp"}})
    assert (config.distillation.temperature, config.distillation.alpha) == (4.0, 0.9)
    assert config.data == DataConfig()
    assert (config.out, config.seed) == ("runs/distilled", 0)


@pytest.mark.parametrize(
    ("distillation", "target"),
    [
        ({"temperature": 2}, 2),
        ({"temperature": 2, "teacher_temperature": 3}, 3),
        ({"temperature": "auto"}, None),
        ({"temperature": {"policy": "teacher_only", "temperature": 5}}, 5),
        ({"temperature": {"policy": "teacher_only"}}, 4),
        ({"temperature": {"policy": "linear", "start": 8}}, None),
    ],
)
def test_the_temperature_of_the_targets(distillation, target):
    assert DistillationConfig(**distillation).target_temperature == target


def test_a_teacher_in_python():
    assert TeacherConfig(cache="store").model == ""
    with pytest.raises(ArgumentError, match=r"^model: missing\. Name a model"):
        TeacherConfig()
    with pytest.raises(ArgumentError, match=r"^training: should be a valid dictionary"):
        TeacherConfig("cnn", training=[1])
