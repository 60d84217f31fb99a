"""The teacher of a run: trained once, loaded again, opened from a store that fits, or computed beforehand."""

import copy
import json
from types import SimpleNamespace

import pytest
import skops.io
import torch
from sklearn.naive_bayes import GaussianNB
from torch import nn

from limbeck.config import config_from
from limbeck.data import load_splits
from limbeck.errors import ConfigError, StoreError
from limbeck.evaluation import predict_logits
from limbeck.models import SelectedColumns, forward_logits, save_model
from limbeck.run.opening import OpenedRun
from limbeck.run.plan import plan_of
from limbeck.run.teacher import (
    _as_logits,
    check_has_logits,
    load_or_train_teacher,
    load_teacher,
    open_stored_teacher,
    precompute_teacher,
    teacher_training_config,
)
from limbeck.run.training import build_seeded_model
from limbeck.store import Dense, Hidden, Sampled, TeacherStore, TopK, build_store
from limbeck.teachers import as_teacher
from support.onnx_files import write_linear

VALUES = {
    "data": {"name": "digits", "labelled": 100},
    "teacher": {"model": "mlp", "settings": {"hidden": [8]}, "training": {"max_steps": 2, "learning_rate": 0.1}},
    "student": {"model": "mlp", "settings": {"hidden": [4]}},
    "distillation": {"temperature": 4.0},
}


def config(**changes):
    return config_from({**VALUES, **changes})


@pytest.fixture(scope="module")
def splits():
    return load_splits(config().data, seed=0)


@pytest.fixture
def teacher(splits):
    return build_seeded_model(config().teacher, splits, 0)


def test_a_teacher_is_trained_once(splits, tmp_path):
    trained = load_or_train_teacher(config(), splits, tmp_path)
    loaded = load_teacher(config(teacher={**VALUES["teacher"], "training": {"max_steps": 10**9}}), splits, tmp_path)
    untrained = build_seeded_model(config().teacher, splits, 0)
    assert not trained.training
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert not torch.equal(untrained.state_dict()[name], value)


def test_a_teacher_is_trained_by_its_own_settings():
    augmented = {"name": "digits", "labelled": 100, "augmentation": {"shift": 1}}
    own = {**VALUES["teacher"], "augmentation": {"flip": True}}
    changed = teacher_training_config(config(data=augmented, teacher=own, training={"max_steps": 50}))
    assert changed.training["max_steps"] == 2
    assert (changed.data.augmentation.shift, changed.data.augmentation.flip) == (0, True)
    assert teacher_training_config(config(data=augmented)).data.augmentation.shift == 1


def test_a_teacher_without_weights_or_a_name(splits, tmp_path):
    with pytest.raises(ConfigError, match=r"^teacher\.model: mlp has no weights yet"):
        load_or_train_teacher(config(teacher={"model": "mlp"}), splits, tmp_path)
    with pytest.raises(ConfigError, match=r"^teacher\.model: needed here"):
        load_or_train_teacher(config(teacher={"cache": "store"}), splits, tmp_path)


def test_logits_that_were_computed_beforehand(splits):
    teacher = build_seeded_model(config().teacher, splits, 0).eval()
    in_memory = precompute_teacher(teacher, splits.train)
    batch = splits.train.__getitems__([5, 0, 700])
    torch.testing.assert_close(in_memory(batch).logits, teacher(batch["pixel_values"]))
    others = torch.ones(len(in_memory.logits), dtype=torch.bool)
    others[splits.train.ids] = False  # rows of the source that are no training examples
    assert others.any()
    assert in_memory.logits[others].isnan().all()


class TestStoredTeacher:
    def test_a_temperature_that_changes(self, splits, teacher, tmp_path):
        build_store(teacher, splits.train, tmp_path / "store", TopK(4, (4.0,)))
        stored = {"cache": str(tmp_path / "store")}
        assert open_stored_teacher(config(teacher=stored), splits).store.codec == TopK(4, (4.0,))
        with pytest.raises(
            ConfigError, match=r"^distillation\.temperature: the teacher's log-normaliser at T = 2 is not"
        ):
            open_stored_teacher(config(teacher=stored, distillation={"temperature": 2}), splits)
        cosine = {"temperature": {"policy": "cosine", "start": 4, "end": 1}}
        with pytest.raises(ConfigError, match=r"^distillation\.temperature: the store keeps some classes"):
            open_stored_teacher(config(teacher=stored, distillation=cosine), splits)

    def test_draws_serve_one_temperature(self, splits, teacher, tmp_path):
        build_store(teacher, splits.train, tmp_path / "store", Sampled(4, 4.0))
        stored = {"cache": str(tmp_path / "store")}
        assert open_stored_teacher(config(teacher=stored), splits)
        with pytest.raises(ConfigError, match=r"^distillation\.temperature: the store's draws were made at T = 4"):
            open_stored_teacher(config(teacher=stored, distillation={"temperature": 2}), splits)

    def test_other_examples_and_other_views(self, splits, teacher, tmp_path):
        build_store(teacher, splits.test, tmp_path / "store", TopK(4, (4.0,)))
        stored = {"cache": str(tmp_path / "store")}
        with pytest.raises(StoreError, match="store"):
            open_stored_teacher(config(teacher=stored), splits)
        build_store(teacher, splits.train, tmp_path / "one-view", TopK(4, (4.0,)))
        shifted = {"name": "digits", "labelled": 100, "augmentation": {"shift": 1}}
        with pytest.raises(ConfigError, match=r"^data\.augmentation: the stored teacher was asked about one view"):
            open_stored_teacher(config(teacher={"cache": str(tmp_path / "one-view")}, data=shifted), splits)

    @pytest.mark.parametrize(
        "codec", [Dense("float32"), Hidden("float32"), TopK(4, (4.0,), "float32"), Sampled(4, 4.0)], ids=repr
    )
    def test_classes_in_another_order_are_matched_by_name(self, splits, teacher, tmp_path, codec):
        order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
        moved = SelectedColumns(teacher, order) if codec.name != "hidden" else copy.deepcopy(teacher)
        if codec.name == "hidden":
            layer = [part for part in moved.modules() if isinstance(part, torch.nn.Linear)][-1]
            layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
        names = [splits.label_names[i] for i in order]
        build_store(moved, splits.train, tmp_path / "store", codec, class_names=names)
        before = len(splits.notes)
        stored = open_stored_teacher(config(teacher={"cache": str(tmp_path / "store")}), splits)
        assert "matched by name" in splits.notes[before]
        batch = splits.train.__getitems__([5, 0, 700])
        output, truth = stored(batch), teacher(batch["pixel_values"]).detach()
        if output.logits is not None:
            torch.testing.assert_close(output.logits, truth)
        elif isinstance(codec, TopK):
            values, ids = (truth / 4).log_softmax(-1).topk(4)
            assert torch.equal(output.targets.ids, ids)
            torch.testing.assert_close(output.targets.at(4.0), values)
        else:
            drawn = TeacherStore(tmp_path / "store").look_up(batch["example_id"]).targets.ids
            assert output.targets.ids.tolist() == [[order[i] for i in row] for row in drawn.tolist()]

    def test_more_classes_are_cut_where_all_are_stored(self, splits, tmp_path):
        torch.manual_seed(0)
        teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11))
        names = ["ten", *splits.label_names]
        build_store(teacher, splits.train, tmp_path / "dense", Dense("float32"), class_names=names)
        stored = open_stored_teacher(config(teacher={"cache": str(tmp_path / "dense")}), splits)
        batch = splits.train.__getitems__([3])
        torch.testing.assert_close(stored(batch).logits, teacher(batch["pixel_values"])[:, 1:].detach())
        build_store(teacher, splits.train, tmp_path / "topk", TopK(4, (4.0,)), class_names=names)
        with pytest.raises(ConfigError, match=r"^teacher\.cache: 1 of the 11 classes in .* are not the student's"):
            open_stored_teacher(config(teacher={"cache": str(tmp_path / "topk")}), splits)

    def test_a_class_that_the_store_lacks_is_refused(self, splits, teacher, tmp_path):
        names = [*splits.label_names[:9], "nine"]
        build_store(teacher, splits.train, tmp_path / "store", Dense("float32"), class_names=names)
        with pytest.raises(ConfigError, match=r"^teacher\.cache: .*store lacks 1 of the 10 classes of the data: '9'"):
            open_stored_teacher(config(teacher={"cache": str(tmp_path / "store")}), splits)


def test_an_estimator_from_a_file(splits, tmp_path):
    rows = splits.train.__getitems__(range(len(splits.train)))["pixel_values"].flatten(1).numpy()
    names = [f"n{label}" if label else "0" for label in splits.true_labels.tolist()]
    for labels, file in ((splits.true_labels.numpy(), "numbers"), (names, "others")):
        skops.io.dump(GaussianNB(var_smoothing=0.1).fit(rows, labels), tmp_path / f"{file}.skops")
    teacher = load_teacher(config(teacher={"sklearn": str(tmp_path / "numbers.skops")}), splits, tmp_path)
    found = predict_logits(teacher, splits.test).argmax(-1)
    assert (found == splits.test.labels).float().mean() > 0.8
    with pytest.raises(ConfigError, match=r"^teacher\.sklearn: .* lacks 9 of the 10 classes of the data"):
        load_teacher(config(teacher={"sklearn": str(tmp_path / "others.skops")}), splits, tmp_path)
    plan = plan_of(config(teacher={"sklearn": "f.skops"}), OpenedRun(splits, teacher, teacher), tmp_path)
    assert plan.facts["teacher"].startswith("GaussianNB in f.skops, right on ")


def test_an_onnx_file(splits, tmp_path):
    weight, names = torch.randn(64, 10), [*reversed(splits.label_names)]
    path = write_linear(
        tmp_path / "m.onnx", weight.numpy(), shape=(1, 8, 8), metadata={"names": json.dumps(names)}, softmax=True
    )
    named = {"onnx": str(path), "outputs": "probabilities"}
    teacher = load_teacher(config(teacher=named), splits, tmp_path)
    rows = splits.test.as_one_batch()["pixel_values"].flatten(1)
    expected = (rows @ weight).flip(-1).softmax(-1)
    torch.testing.assert_close(predict_logits(teacher, splits.test).softmax(-1), expected)
    plan = plan_of(config(teacher=named), OpenedRun(splits, teacher, teacher), tmp_path)
    assert plan.facts["teacher"].startswith(f"{path}, right on ")


def test_an_estimator_beside_something_else():
    for teacher, key in (
        ({"sklearn": "a.skops", "model": "mlp"}, "sklearn"),
        ({"onnx": "a.onnx", "model": "mlp"}, "onnx"),
        ({"onnx": "a.onnx", "sklearn": "a.skops"}, "onnx"),
        ({"onnx": "a.onnx", "training": {"max_steps": 1}}, "training"),
        ({"model": "mlp", "trusted": ["a.B"]}, "trusted"),
        ({"sklearn": "a.skops", "training": {"max_steps": 1}}, "training"),
    ):
        with pytest.raises(ConfigError, match=rf"teacher\.{key}: "):
            config(teacher=teacher)


@pytest.fixture
def ensemble(splits, tmp_path):
    """Return the config of an ensemble: an estimator with its classes in another order, and a network that a run saved."""
    rows = splits.train.__getitems__(range(len(splits.train)))["pixel_values"].flatten(1).numpy()
    skops.io.dump(GaussianNB(var_smoothing=0.1).fit(rows, splits.true_labels.numpy()), tmp_path / "bayes.skops")
    load_or_train_teacher(config(), splits, tmp_path)
    members = [{"sklearn": str(tmp_path / "bayes.skops"), "weight": 3}, {"model": str(tmp_path / "teacher")}]
    return {"ensemble": members}


def test_an_ensemble_is_averaged_at_the_temperature_also_from_memory(splits, ensemble, tmp_path):
    teacher = load_teacher(config(teacher=ensemble), splits, tmp_path)
    batch = splits.train.__getitems__(range(5))
    single = [forward_logits(member, batch) for member in teacher.members]
    expected = ((single[0] / 4).softmax(-1) * 3 + (single[1] / 4).softmax(-1)) / 4
    for source in (as_teacher(teacher), precompute_teacher(teacher, splits.train)):
        found = source.at_temperature(4.0)(batch).logits
        torch.testing.assert_close((found / 4).softmax(-1), expected)
    plan = plan_of(config(teacher=ensemble), OpenedRun(splits, teacher, teacher), tmp_path)
    assert "bayes.skops and " in plan.facts["teacher"]


def test_an_ensemble_that_cannot_be_averaged(splits, ensemble, tmp_path):
    policy = {"temperature": {"policy": "linear", "start": 8, "end": 1}}
    with pytest.raises(ConfigError, match=r"^teacher\.average: .* a policy changes it"):
        load_teacher(config(teacher=ensemble, distillation=policy), splits, tmp_path)
    logits = load_teacher(config(teacher={**ensemble, "average": "logits"}, distillation=policy), splits, tmp_path)
    check_has_logits(logits, "cache build")
    with pytest.raises(ConfigError, match=r"^teacher\.average: .*cache build needs"):
        check_has_logits(load_teacher(config(teacher=ensemble), splits, tmp_path), "cache build")


def test_every_fault_of_an_ensemble_is_told(splits, tmp_path):
    members = [{"sklearn": str(tmp_path / "none.skops")}, {"model": "mlp"}]
    with pytest.raises(ConfigError) as caught:
        load_teacher(config(teacher={"ensemble": members}), splits, tmp_path)
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == [
        "teacher.ensemble.0.sklearn",
        "teacher.ensemble.1.model",
    ]
    for teacher in ({"ensemble": members, "model": "mlp"}, {"ensemble": members[:1]}, {"ensemble": [{}, {}]}):
        with pytest.raises(ConfigError, match=r"teacher\.ensemble"):
            config(teacher=teacher)


class TestSpecialists:
    def members(self, splits, folder, names):
        """Write a network of all classes and an estimator of some, whose other examples have the last name."""
        rows, labels = splits.train.load(splits.train.ids.tolist())["pixel_values"].flatten(1), splits.true_labels
        model = build_seeded_model(config().teacher, splits, 0)
        save_model(model, folder / "all", config().teacher, splits.shape)
        splits.preprocessing.save(folder / "all")
        own = [names[min(label, len(names) - 1)] for label in labels.tolist()]
        skops.io.dump(GaussianNB(var_smoothing=0.1).fit(rows.numpy(), own), folder / "some.skops")
        return {"ensemble": [{"model": str(folder / "all")}, {"sklearn": str(folder / "some.skops"), "weight": 2}]}

    def test_a_member_of_fewer_classes_is_one(self, splits, tmp_path):
        teacher = load_teacher(config(teacher=self.members(splits, tmp_path, ["0", "1", "other"])), splits, tmp_path)
        told = "teacher.ensemble.1.sklearn is a specialist: it knows 2 of the 10 classes ('0', '1'). Its class for"
        assert splits.notes[-1].startswith(told)
        named = config(teacher=self.members(splits, tmp_path, ["0", "1", "other"]))
        plan = plan_of(named, OpenedRun(splits, teacher, build_seeded_model(named.student, splits, 0)), tmp_path)
        assert "some.skops, a specialist in 2 of 10 classes" in plan.facts["teacher"]
        batch = splits.test.as_one_batch()
        generalist, specialist = (forward_logits(member, batch).softmax(-1) for member in teacher.members)
        found = forward_logits(teacher, batch).softmax(-1)
        torch.testing.assert_close(found[:, 2:], generalist[:, 2:])
        inside = generalist[:, :2] + 2 * specialist
        mass = generalist[:, :2].sum(-1, keepdim=True)
        torch.testing.assert_close(found[:, :2], mass * inside / inside.sum(-1, keepdim=True))
        remembered = precompute_teacher(teacher, splits.train).at_temperature(3.0)
        some = splits.train.__getitems__([3, 5])
        torch.testing.assert_close(remembered(some).logits, as_teacher(teacher).at_temperature(3.0)(some).logits)

    def test_classes_that_differ_in_spelling_or_are_foreign_make_none(self, splits, tmp_path):
        for names in (["0", "one", "other"], ["0", "1", " 2"]):
            members = self.members(splits, tmp_path, names)
            with pytest.raises(ConfigError, match=r"teacher\.ensemble\.1\.sklearn: .*lacks"):
                load_teacher(config(teacher=members), splits, tmp_path)


@pytest.mark.parametrize(
    ("task", "to_probabilities"), [("classification", nn.Softmax(-1)), ("multi_label", nn.Sigmoid())]
)
def test_probabilities_become_the_logits_of_the_task(task, to_probabilities):
    logits = torch.randn(5, 3)
    named, splits = SimpleNamespace(outputs="probabilities"), SimpleNamespace(task=task)
    found = _as_logits(to_probabilities, named, splits, "teacher")(logits)
    torch.testing.assert_close(to_probabilities(found), to_probabilities(logits))


def test_numbers_are_no_probabilities():
    with pytest.raises(ConfigError, match=r"^teacher\.outputs: regression has no probabilities"):
        _as_logits(
            nn.Identity(), SimpleNamespace(outputs="probabilities"), SimpleNamespace(task="regression"), "teacher"
        )
