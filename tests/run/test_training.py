"""One training does what its config says, with no more and no fewer steps."""

import pytest
import torch
from torch import nn

from limbeck.config import DistillationConfig, config_from
from limbeck.data import load_splits
from limbeck.errors import ConfigError
from limbeck.run.training import NO_LOGS_OR_CHECKPOINTS, build_seeded_model, count_steps, train, training_arguments

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
        count_steps(config(num_train_epochs=0), splits.train)


def test_a_seed_draws_the_same_model(splits):
    first, again, other = (build_seeded_model(config().student, splits, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_arguments_are_the_configs(tmp_path):
    arguments = training_arguments(config(learning_rate=0.5).model_copy(update={"seed": 7}), tmp_path)
    assert (arguments.temperature, arguments.alpha, arguments.learning_rate, arguments.seed) == (3.0, 0.7, 0.5, 7)
    assert arguments.output_dir == str(tmp_path)


def test_arguments_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"^training: .*load_best_model_at_end"):
        training_arguments(config(load_best_model_at_end=True, save_strategy="steps"), tmp_path)
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
