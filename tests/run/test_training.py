"""One training does what its config says, with no more and no fewer steps."""

import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from limbeck.config import DistillationConfig, config_from, load_config, write_config
from limbeck.data import load_splits
from limbeck.errors import ConfigError
from limbeck.run.training import NO_LOGS_OR_CHECKPOINTS, build_seeded_model, count_steps, train, training_arguments
from support.language import write_corpus, write_masked_models

VALUES = {
    "data": {"name": "digits", "labelled": 100, "transfer": "labelled"},
    "teacher": {"model": "cnn"},
    "student": {"model": "mlp", "settings": {"hidden": [4]}},
    "distillation": {"temperature": 3.0, "alpha": 0.7},
    "training": {**NO_LOGS_OR_CHECKPOINTS, "per_device_train_batch_size": 32},
}


def config(**training):
    return config_from({**VALUES, "training": {**VALUES["training"], **training}})


@pytest.fixture(scope="module")
def splits():
    return load_splits(config().data, seed=0)


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({"max_steps": 3}, 3),
        ({"num_train_epochs": 2}, 2 * 4),  # 100 examples in batches of 32
        ({"num_train_epochs": 1.5}, 6),
        ({"num_train_epochs": 1, "gradient_accumulation_steps": 2}, 2),
    ],
)
def test_the_trainer_takes_as_many_steps_as_are_counted(splits, tmp_path, training, steps):
    settings = config(**training)
    student = build_seeded_model(settings.student, splits, 0)
    assert count_steps(settings, splits.train) == steps
    assert train(student, None, splits.train, settings, folder=tmp_path).state.global_step == steps


def test_no_step_to_take(splits):
    with pytest.raises(ConfigError, match="training: no step to take"):
        count_steps(config().model_copy(update={"training": {"num_train_epochs": 0}}), splits.train)


def test_a_seed_draws_the_same_model(splits):
    first, again, other = (build_seeded_model(config().student, splits, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_weights_in_half_precision_are_trained_in_float32(tmp_path):
    write_masked_models(tmp_path)
    for name, dtype in (("teacher", torch.bfloat16), ("student", torch.float16)):
        AutoModelForMaskedLM.from_pretrained(tmp_path / name, dtype=dtype).save_pretrained(tmp_path / name)
    texts, given = str(write_corpus(tmp_path / "texts")), {"tokenizer": str(tmp_path / "teacher"), "max_length": 32}
    part = {"model": str(tmp_path / "teacher")}
    for student in ({"from_teacher": {"layers": 1}}, {"model": str(tmp_path / "student")}):
        values = {**VALUES, "task": "masked_lm", "data": {"name": texts, **given}, "teacher": part, "student": student}
        settings = config_from({**values, "distillation": {}})
        model = build_seeded_model(settings.student, load_splits(settings.data, task="masked_lm"), 0)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_arguments_are_the_configs(tmp_path):
    arguments = training_arguments(config(learning_rate=0.5).model_copy(update={"seed": 7}), tmp_path)
    assert (arguments.temperature, arguments.alpha, arguments.learning_rate, arguments.seed) == (3.0, 0.7, 0.5, 7)
    assert arguments.output_dir == str(tmp_path)


def test_arguments_that_cannot_be_used(tmp_path):
    unchecked = config().model_copy(update={"training": {"load_best_model_at_end": True}})
    with pytest.raises(ConfigError, match=r"^training: .*load_best_model_at_end"):
        training_arguments(unchecked, tmp_path)
    auto = config().model_copy(update={"distillation": DistillationConfig(temperature="auto")})
    with pytest.raises(ConfigError, match=r"^distillation\.temperature: auto"):
        training_arguments(auto, tmp_path)


def test_without_a_teacher_the_labels_alone_count(splits, tmp_path):
    settings = config(max_steps=1, optim="sgd", learning_rate=0.1, max_grad_norm=0.0, per_device_train_batch_size=100)
    student = build_seeded_model(settings.student, splits, 0)
    by_hand = build_seeded_model(settings.student, splits, 0)
    train(student, None, splits.train, settings, folder=tmp_path)
    batch = splits.train.__getitems__(range(100))
    nn.functional.cross_entropy(by_hand(batch["pixel_values"]), batch["labels"]).backward()
    for ours, parameter in zip(student.parameters(), by_hand.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(ours, parameter - 0.1 * parameter.grad)


OWN = """
from dataclasses import dataclass
from limbeck.losses import Divergence, expectation
from limbeck.temperature import Policy, Softening

@dataclass(frozen=True)
class Weighted(Divergence):
    weight: float = 2.0

    def terms(self, a, b):
        return self.weight * expectation(b.exp(), b - a)

class Steps(Policy):
    nominal_temperature = 8.0

    def forward(self, student_logits, teacher_logits, labels=None, progress=0.0, mask=None):
        return Softening(8.0, 8.0)
"""


@pytest.fixture
def config_with_own_classes(tmp_path, monkeypatch):
    (tmp_path / "own_of_run.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = {"divergence": {"name": "own_of_run:Weighted", "weight": 3.0}, "temperature": {"policy": "own_of_run:Steps"}}
    yield config_from({**VALUES, "distillation": own})
    sys.modules.pop("own_of_run", None)


def test_a_run_takes_classes_of_the_users_own(config_with_own_classes, tmp_path):
    arguments = training_arguments(config_with_own_classes, tmp_path)
    assert repr(arguments.objective().divergence) == "Weighted(weight=3.0)"
    assert type(arguments.policy()).__name__ == "Steps"


def test_reading_the_config_of_a_folder_imports_nothing(config_with_own_classes, tmp_path):
    write_config(config_with_own_classes, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml", training=False) == config_with_own_classes
    assert "own_of_run" not in sys.modules


def test_a_class_that_cannot_be_imported_is_told_before_the_training(config_with_own_classes, tmp_path):
    config = config_with_own_classes
    for key, value in (("divergence", "no_such_module:X"), ("temperature", {"policy": "own_of_run:Missing"})):
        wrong = config.model_copy(update={"distillation": config.distillation.model_copy(update={key: value})})
        with pytest.raises(ConfigError, match=rf"^distillation\.{key}.*Expected package\.module:Class"):
            training_arguments(wrong, tmp_path)
