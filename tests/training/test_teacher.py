"""How the trainer turns its ``teacher`` argument into a teacher, and which augmentation fits it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from torch import nn

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.data import Examples, TensorRows
from limbeck.errors import ArgumentError
from limbeck.models import SelectedColumns
from limbeck.store import Dense, StoredTeacher, build_store
from limbeck.tasks import task_named
from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher, TeacherOutput, as_teacher
from limbeck.training.teacher import check_teacher_fits, choose_augmentation, match_classes, resolve_teacher
from support.onnx_files import write_linear
from support.workbench import Net


def arguments(folder, **settings):
    return DistillationArguments(str(folder), use_cpu=True, **settings)


def test_without_a_teacher_alpha_must_be_zero(tmp_path):
    assert resolve_teacher(None, Net(), arguments(tmp_path, alpha=0.0)) is None
    with pytest.raises(ValueError, match=r"teacher: needed .* alpha = 0\.3"):
        resolve_teacher(None, Net(), arguments(tmp_path, alpha=0.3))


def test_a_module_is_converted_and_a_teacher_keeps_its_dtype(tmp_path):
    args = arguments(tmp_path, teacher_dtype="float16")
    module = resolve_teacher(Net(), Net(), args)
    assert isinstance(module, LiveTeacher)
    assert {parameter.dtype for parameter in module.model.parameters()} == {torch.float16}
    live = LiveTeacher(Net())
    assert resolve_teacher(live, Net(), args) is live
    assert {parameter.dtype for parameter in live.model.parameters()} == {torch.float32}


def test_an_onnx_file_is_read_by_its_name(tmp_path):
    weight = torch.randn(8, 3)
    path = write_linear(tmp_path / "m.onnx", weight.numpy(), softmax=True)
    teacher = resolve_teacher(path, Net(), arguments(tmp_path, teacher_outputs="probabilities"))
    rows = torch.randn(5, 8)
    torch.testing.assert_close(teacher({"x": rows}).logits.softmax(-1), (rows @ weight).softmax(-1))


def test_a_student_as_its_own_teacher_is_refused_before_it_is_frozen(tmp_path):
    student = Net()
    with pytest.raises(ValueError, match="shares parameters"):
        resolve_teacher(student, student, arguments(tmp_path))
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(
    "teacher", [InMemoryTeacher(torch.zeros(3, 4)), Ensemble([InMemoryTeacher(torch.zeros(3, 4))])]
)
def test_a_teacher_of_a_single_view_refuses_augmentation(teacher):
    assert choose_augmentation(None, teacher) is None
    with pytest.raises(ValueError, match="augment: this teacher was asked before about one view"):
        choose_augmentation(dict, teacher)


def test_any_augmentation_fits_a_live_teacher_or_no_teacher():
    assert choose_augmentation(dict, LiveTeacher(Net())) is dict
    assert choose_augmentation(dict, None) is dict


class TestClasses:
    """Both models' configs name their classes: the teacher's columns are brought into the student's order, or refused."""

    def models(self, *orders):
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(0)
        config = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        return [
            BertForSequenceClassification(BertConfig(**config, id2label=dict(enumerate(names)))).eval()
            for names in orders
        ]

    def test_another_order_is_matched_by_name(self, tmp_path):
        student, teacher = self.models(["neg", "neutral", "pos"], ["pos", "neg", "neutral", "mixed"])
        rows = torch.randint(9, (4, 5))
        data = [{"input_ids": row, "labels": torch.tensor(i % 3)} for i, row in enumerate(rows)]
        args = DistillationArguments(str(tmp_path), alpha=1.0, temperature=1.0, use_cpu=True, disable_tqdm=True)
        trainer = DistillationTrainer(student, teacher, args, train_dataset=data)
        with torch.no_grad():
            expected = teacher(input_ids=rows).logits[:, [1, 2, 0]]
        torch.testing.assert_close(trainer.teacher({"input_ids": rows}).logits, expected)

    def test_stored_classes_are_matched_by_name(self, tmp_path):
        student, teacher = self.models(["neg", "neutral", "pos"], ["pos", "neg", "neutral"])
        rows = torch.randint(9, (4, 5))
        examples = Examples(TensorRows("input_ids", rows), torch.zeros(4))
        build_store(teacher, examples, tmp_path / "store", Dense("float32"), class_names=["pos", "neg", "neutral"])
        args = arguments(tmp_path)
        for given in (
            tmp_path / "store",
            StoredTeacher(tmp_path / "store"),
            StoredTeacher(tmp_path / "store", [1, 2, 0]),
        ):
            stored = resolve_teacher(given, student, args)
            truth = teacher(input_ids=rows).logits[:, [1, 2, 0]].detach()
            torch.testing.assert_close(stored({"example_id": torch.arange(4)}).logits, truth)
        other, _ = self.models(["good", "bad", "neutral"], ["x"])
        with pytest.raises(ArgumentError, match=r"teacher: .*store lacks 2 of the 3 classes of the student's config"):
            resolve_teacher(tmp_path / "store", other, args)

    def test_a_class_that_the_teacher_lacks_is_refused(self, tmp_path):
        student, teacher = self.models(["neg", "pos"], ["bad", "good"])
        args = DistillationArguments(str(tmp_path), use_cpu=True)
        with pytest.raises(ArgumentError, match="teacher: the teacher's config lacks 2 of the 2 classes"):
            DistillationTrainer(student, teacher, args)

    def test_a_teacher_in_the_right_order_stays_as_it_is(self):
        """Three classes in a circle: an order applied twice is another one."""
        student, teacher = self.models(["a", "b", "c"], ["c", "a", "b"])
        matched = match_classes(teacher, student)
        assert matched is not teacher
        assert match_classes(matched, student) is matched

    def test_names_that_mean_nothing_are_not_compared(self, tmp_path):
        student, teacher = self.models(["neg", "pos"], ["LABEL_0", "LABEL_1"])
        assert match_classes(teacher, student) is teacher


@pytest.fixture(scope="module")
def wine():
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.preprocessing import StandardScaler

    inputs, labels = load_wine(return_X_y=True)
    inputs = StandardScaler().fit_transform(inputs)
    train, test = np.arange(178) % 5 > 1, np.arange(178) % 5 <= 1
    forest = RandomForestClassifier(10, random_state=0).fit(inputs[train], labels[train])
    as_float = torch.from_numpy(inputs).float()
    return forest, as_float[train], torch.from_numpy(labels[train]), as_float[test], torch.from_numpy(labels[test])


class TestRandomForest:
    """A random forest of scikit-learn gives probabilities, many of them 0; a network learns from it."""

    def train(self, wine, folder, function, **settings):
        _, x, y, *_ = wine
        torch.manual_seed(0)
        student = torch.nn.Linear(13, 3)
        args = arguments(
            folder, max_steps=20, per_device_train_batch_size=len(x), learning_rate=0.5, optim="sgd", disable_tqdm=True,
            lr_scheduler_type="constant", max_grad_norm=0.0, alpha=0.8, temperature=2.0, save_strategy="no", **settings,
        )  # fmt: skip
        data = [{"x": row, "labels": label} for row, label in zip(x, y, strict=True)]
        DistillationTrainer(student, function, args, train_dataset=data).train()
        return student

    def test_it_is_the_hand_written_loop(self, wine, tmp_path):
        forest, x, y, x_test, y_test = wine

        def probabilities(batch):
            return torch.from_numpy(forest.predict_proba(batch["x"].numpy()))

        student = self.train(wine, tmp_path, probabilities, teacher_outputs="probabilities")
        again = self.train(wine, tmp_path, lambda batch: TeacherOutput(probabilities=probabilities(batch)))
        torch.manual_seed(0)
        by_hand = torch.nn.Linear(13, 3)
        softened = probabilities({"x": x}).sqrt()  # at T = 2
        assert (softened == 0).any()
        softened = (softened / softened.sum(-1, keepdim=True)).float()
        for _ in range(20):
            soft = -(softened * (by_hand(x) / 2).log_softmax(-1)).sum(-1).mean()
            loss = 0.8 * 4 * soft + 0.2 * torch.nn.functional.cross_entropy(by_hand(x), y)
            for parameter, gradient in zip(
                by_hand.parameters(), torch.autograd.grad(loss, list(by_hand.parameters())), strict=True
            ):
                parameter.data -= 0.5 * gradient
        for ours in (student, again):
            torch.testing.assert_close(ours.weight, by_hand.weight, rtol=1e-4, atol=1e-5)
        logits = student(x_test)
        assert (logits.argmax(-1) == y_test).float().mean() > 0.9
        assert torch.nn.functional.cross_entropy(logits, y_test) < 0.3

    def test_what_it_returns_is_not_taken_for_logits(self, wine, tmp_path):
        def function(batch):
            return torch.from_numpy(wine[0].predict_proba(batch["x"].numpy()))

        with pytest.raises(ArgumentError, match="probabilities"):
            self.train(wine, tmp_path, function)

    def test_logits_are_not_taken_for_probabilities(self, wine, tmp_path):
        with pytest.raises(ArgumentError, match="sum to 1"):
            self.train(wine, tmp_path, torch.nn.Linear(13, 3), teacher_outputs="probabilities")

    def test_a_teacher_says_itself_what_it_gives(self, tmp_path):
        for teacher, outputs in ((InMemoryTeacher(torch.zeros(2, 3)), "probabilities"), (dict.get, "logit")):
            with pytest.raises(ArgumentError, match=r"^teacher_outputs: "):
                resolve_teacher(teacher, Net(), arguments(tmp_path, teacher_outputs=outputs))


class TestEstimators:
    ROWS = torch.tensor([[0.0], [1.0], [3.0], [4.0]])

    def student(self, names):
        student = nn.Linear(1, len(names))
        student.config = SimpleNamespace(id2label=dict(enumerate(names)))
        return student

    def test_its_classes_are_matched_by_name(self, tmp_path):
        forest = GaussianNB().fit(self.ROWS.numpy(), ["low", "low", "high", "high"])
        teacher = resolve_teacher(forest, self.student(["low", "high"]), arguments(tmp_path))
        assert teacher({"x": self.ROWS}).logits.argmax(-1).tolist() == [0, 0, 1, 1]
        with pytest.raises(ArgumentError, match=r"^teacher: .*lacks 1 of the 2 classes.*'medium'"):
            resolve_teacher(forest, self.student(["low", "medium"]), arguments(tmp_path))

    def test_names_that_nothing_can_be_compared_with_are_refused(self, tmp_path):
        forest = GaussianNB().fit(self.ROWS.numpy(), ["low", "low", "high", "high"])
        with pytest.raises(ArgumentError, match=r"^teacher: the classes_ of this GaussianNB are 'high', 'low'"):
            resolve_teacher(forest, nn.Linear(1, 2), arguments(tmp_path))

    @pytest.mark.parametrize("outputs", ["logits", "probabilities"])
    def test_class_numbers_are_the_labels(self, tmp_path, outputs):
        forest = GaussianNB().fit(self.ROWS.numpy(), [0, 0, 1, 1])
        expected = torch.from_numpy(forest.predict_proba(self.ROWS.numpy())).float()
        for student in (nn.Linear(1, 2), self.student(["low", "high"])):
            found = resolve_teacher(forest, student, arguments(tmp_path, teacher_outputs=outputs))(
                {"x": self.ROWS}
            ).logits
            torch.testing.assert_close(found.softmax(-1), expected)

    def test_columns_that_were_chosen_already_are_not_chosen_again(self, tmp_path):
        teacher = SelectedColumns(self.student(["low", "medium", "high"]), [2, 0])
        assert resolve_teacher(teacher, self.student(["high", "low"]), arguments(tmp_path)).model is teacher


def test_an_estimator_of_one_class_cannot_teach_several_labels(tmp_path):
    estimator = GaussianNB().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    check_teacher_fits(as_teacher(estimator), task_named("classification"), arguments(tmp_path))
    with pytest.raises(
        ArgumentError, match="GaussianNB gives probabilities of one class out of all, and task='multi_label'"
    ):
        check_teacher_fits(as_teacher(estimator), task_named("multi_label"), arguments(tmp_path))
