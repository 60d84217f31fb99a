"""A run's plan: what the teacher knows, compared with chance, and what a step takes."""

import pytest
import torch
from torch import nn

from limbeck.config import config_from
from limbeck.config.schema import DistillationConfig
from limbeck.data import load_splits
from limbeck.errors import ConfigError
from limbeck.run.opening import inspect_run
from limbeck.run.plan import describe_objective, measure_step, measure_teacher, teacher_warnings
from limbeck.run.training import build_seeded_model
from limbeck.store import Dense, Sampled, StoredTeacher, TopK, build_store
from limbeck.tasks import Classification
from limbeck.temperature.calibration import calibrate

VALUES = {
    "data": {"name": "digits", "labelled": 100},
    "teacher": {"model": "mlp", "training": {"max_steps": 1}},
    "student": {"model": "mlp", "settings": {"hidden": [4]}},
    "training": {"max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
}
LABELS = torch.arange(240) % 8


@pytest.fixture(scope="module")
def splits():
    return load_splits(config_from(VALUES).data, seed=0)


def right_on(share):
    """Logits that are right on a share of the labels, and name the next class on the others."""
    wrong = (torch.arange(240) >= share * 240).long()
    return 3.0 * torch.nn.functional.one_hot((LABELS + wrong) % 8, 8).float()


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "is no better than chance and has nothing to teach"), (0.4, "has little to teach"), (0.74, None), (1.0, None)],
)  # fmt: skip
def test_what_is_said_of_a_teacher(share, said):
    warnings = teacher_warnings(calibrate(right_on(share), LABELS))
    if said is None:
        assert warnings == []
    else:
        assert warnings[0].startswith(
            f"The teacher is right on {100 * share:.1f} % of 240 labelled examples, against 12.5 %"
        )
        assert said in warnings[0]


def test_a_teacher_that_knows_the_frequencies_alone_is_found_out():
    labels = torch.tensor([0] * 95 + [1] * 5)
    assert "nothing to teach" in teacher_warnings(calibrate(torch.tensor([[3.0, 0.0]]).expand(100, 2), labels))[0]


def test_a_live_teacher_is_asked_about_validation_and_a_store_about_training(splits, tmp_path):
    teacher = build_seeded_model(config_from(VALUES).teacher, splits, 0)
    found = measure_teacher(teacher, splits)
    rows = torch.linspace(0, 299, 256).round().long()
    batch = splits.validation.subset(rows).as_one_batch()
    assert found.examples == 256
    assert found.accuracy == pytest.approx(
        (teacher(batch["pixel_values"]).argmax(-1) == batch["labels"]).double().mean()
    )
    known = splits.train.subset(splits.labelled.nonzero().squeeze(-1)).as_one_batch()
    expected = (teacher(known["pixel_values"]).argmax(-1) == known["labels"]).double().mean()
    for i, codec in enumerate((Dense("float32"), TopK(3))):
        build_store(teacher, splits.train, tmp_path / str(i), codec)
        assert measure_teacher(StoredTeacher(tmp_path / str(i)), splits).accuracy == pytest.approx(expected)
    build_store(teacher, splits.train, tmp_path / "drawn", Sampled(3))
    assert measure_teacher(StoredTeacher(tmp_path / "drawn"), splits) is None


def test_a_timed_step_draws_no_random_numbers_and_changes_no_weight(splits, tmp_path):
    config = config_from(VALUES)
    student, teacher = (build_seeded_model(config.student, splits, seed) for seed in (0, 1))
    before, state = [p.clone() for p in student.parameters()], torch.get_rng_state()
    cost = measure_step(config, splits, student, teacher, tmp_path)
    assert cost.seconds > 0
    assert cost.memory > 1e6
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, old) for p, old in zip(student.parameters(), before, strict=True))


class Zeros(nn.Module):
    """A teacher of probabilities that rules five classes out."""

    def forward(self, pixel_values):
        return torch.tensor([0.2] * 5 + [0.0] * 5).expand(len(pixel_values), 10)


def test_a_loss_that_is_infinite_where_the_teacher_is_sure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.run.teacher.load_trained_model", lambda *_, **__: Zeros().eval())
    teacher = {"model": "torch.nn:Flatten", "outputs": "probabilities"}
    for name in ("reverse_kl", "logit_mse"):
        values = {**VALUES, "teacher": teacher, "distillation": {"divergence": name}}
        with pytest.raises(
            ConfigError, match=r"distillation\.divergence: \w+ is infinite where the teacher gives a class the"
        ):
            inspect_run(config_from(values), tmp_path / "run")
    for name in ("forward_kl", "jsd", "skew_kl", "tvd"):
        values = {**VALUES, "teacher": teacher, "distillation": {"divergence": name}}
        assert inspect_run(config_from(values), tmp_path / "run").teacher is not None
    assert not (tmp_path / "run").exists()


def test_all_faults_are_said_together(tmp_path):
    student = {"model": "cnn", "settings": {"width": "w"}}
    values = {**VALUES, "student": student, "teacher": {"cache": "/nowhere"}}
    with pytest.raises(ConfigError) as caught:
        inspect_run(config_from(values), tmp_path)
    told = "\n".join(caught.value.faults)
    assert all(key in told for key in ("student.model: ", "teacher.cache: /nowhere"))
    with pytest.raises(ConfigError) as caught:  # without data nothing else can be looked at
        inspect_run(config_from({**VALUES, "data": {"name": "digits", "labelled": 5}}), tmp_path)
    assert [fault.partition("data")[2][:10] for fault in caught.value.faults] == [".labelled:"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "T = 4, alpha = 0.9, forward_kl"),
        ({"temperature": 2.0, "teacher_temperature": 3.0}, "T = 2, 3 for the teacher, alpha = 0.9, forward_kl"),
        ({"divergence": "jsd", "beta": 0.3, "skew": 0.2}, "T = 4, alpha = 0.9, jsd, beta = 0.3"),
        ({"divergence": "skew_kl", "compensate": False}, "T = 4, alpha = 0.9, skew_kl, skew = 0.1, compensate = false"),
    ],
)
def test_only_settings_with_an_effect_are_told(settings, told):
    assert describe_objective(DistillationConfig(**settings), Classification()) == told
    several = describe_objective(DistillationConfig(**settings), Classification(), [1.0, 8.0])
    assert several.startswith("T = 1 or 8, ")
