"""Regression and embeddings: their metrics against scikit-learn and scipy, and their trainings against loops by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import nn
from torch.nn import functional as F

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.tasks import Embeddings, Regression, recognise, resolve_task, task_of_data
from limbeck.tasks.numbers import r2_values, rank_correlations
from limbeck.teachers import Ensemble
from support.workbench import Net, bert

NAN = math.nan


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_of_regression(outputs):
    """Also of labels with a large mean, whose variance float32 would lose."""
    labels = draw(40, outputs).double() + 1e5
    outputs, teacher = (labels + draw(40, outputs, seed=seed) for seed in (1, 2))
    labels[3] = NAN
    known = np.delete(np.arange(40), 3)
    y, z, t = (x.numpy()[known] for x in (labels, outputs, teacher))
    wanted = {"r2": r2_score(y, z), "mae": mean_absolute_error(y, z), "rmse": root_mean_squared_error(y, z)}
    task = Regression()
    metrics = task.metrics(outputs, labels, teacher)
    assert metrics == pytest.approx({**wanted, "r2_of_teacher": r2_score(t, z)})
    counted = task.metrics_of_counts(task.counts(outputs, labels).sum(0))
    assert counted == pytest.approx({"r2": wanted["r2"], "rmse": wanted["rmse"]}, abs=1e-4)
    assert task.values(outputs, labels)[known].mean().item() == pytest.approx(wanted["r2"])
    assert r2_values(torch.tensor([[1.0], [2.0]]), torch.ones(2, 1)).tolist() == [1.0, 0.0]  # no variance


def test_metrics_of_embeddings():
    student, teacher = draw(12, 4), draw(12, 6, seed=1)
    s, t = (F.normalize(x.double(), dim=-1).numpy() for x in (student, teacher))
    rows = [spearmanr(np.delete(s @ s[i], i), np.delete(t @ t[i], i)).statistic for i in range(12)]
    assert rank_correlations(student, teacher).numpy() == pytest.approx(rows)
    assert Embeddings().metrics(student, teacher) == {"rank_correlation": pytest.approx(np.mean(rows))}
    rotated = student @ torch.linalg.qr(draw(4, 4, seed=2))[0]
    told = Embeddings().metrics(rotated, student)
    assert told["rank_correlation"] == pytest.approx(1.0)
    assert told["cosine"] < 0.99


def test_which_labels_there_are():
    task = Regression()
    targets = task.targets({"x": torch.zeros(3, 6), "labels": torch.tensor([2.5, NAN, -100.0])})
    assert targets.labels.shape == (3, 1)
    assert targets.mask.tolist() == [True, True, True]
    assert task.labelled(targets.labels).tolist() == [True, False, True]
    assert task.targets({"labels": torch.tensor([1, 2])}).labels.tolist() == [[1.0], [2.0]]
    assert task.targets({"x": torch.zeros(3, 6)}).mask.tolist() == [True, True, True]
    with pytest.raises(ArgumentError, match=r"labels: integers with -100.*NaN"):
        task.targets({"labels": torch.tensor([1, -100])})


def test_what_is_told():
    assert Regression().tell(torch.tensor([21.5]), ["price"]) == ("21.5", {"price": 21.5})
    assert Regression().tell(torch.tensor([1.0, -2.0]), ["x", "y"]) == ("x 1, y -2", {"x": 1.0, "y": -2.0})


def test_how_they_are_recognised():
    student = bert()
    student.config.problem_type = "regression"
    assert recognise(student) == "regression"
    assert isinstance(resolve_task("auto", student), Regression)
    student.config.problem_type, student.config.num_labels = None, 1
    assert recognise(student) == "regression"
    with pytest.raises(ArgumentError, match=r"labels of the data are for classification, .*made for regression"):
        task_of_data("classification", student)
    for shape in ((2,), (2, 3)):
        with pytest.raises(ArgumentError, match=r"task: the student is a module of your own.*task='regression'"):
            resolve_task("auto", Net()).targets({"x": torch.zeros(2, 6), "labels": torch.zeros(shape)})


def arguments(folder, **settings):
    return DistillationArguments(
        str(folder), **{"use_cpu": True, "disable_tqdm": True, "max_steps": 3, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2, "learning_rate": 0.05, "lr_scheduler_type": "constant", "optim": "sgd",
        "max_grad_norm": 0.0, "train_sampling_strategy": "sequential", "logging_steps": 1, "save_strategy": "no", **settings},
    )  # fmt: skip


def assert_alike(first, second):
    for got, expected in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", [None, "cosine"])
def test_a_training_of_regression_is_the_loop_by_hand(distance, tmp_path):
    torch.manual_seed(0)
    teacher, student, twin = nn.Linear(6, 2), nn.Linear(6, 2), nn.Linear(6, 2)
    twin.load_state_dict(student.state_dict())
    x, y = draw(24, 6), draw(24, 2, seed=1)
    y[::3] = NAN
    data = [{"x": x[i], "labels": y[i]} for i in range(24)]
    args = arguments(tmp_path, task="regression", alpha=0.7, distance=distance)
    trainer = DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data)
    trainer.train()
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05)
    for rows in torch.arange(24).split(8):
        z, t, known = twin(x[rows]), teacher(x[rows]).detach(), ~y[rows, 0].isnan()
        soft = F.mse_loss(z, t) if distance is None else F.cosine_embedding_loss(z, t, torch.ones(8))
        hard = F.mse_loss(z[known], y[rows][known], reduction="sum") / 2 / 8
        optimiser.zero_grad()
        (0.7 * soft + 0.3 * hard).backward()
        optimiser.step()
    assert_alike(student, twin)
    metrics, outputs = trainer.evaluate(), student(x).detach()
    expected = Regression().metrics(outputs, y)
    for name in ("r2", "mae", "rmse"):
        assert metrics[f"eval_{name}"] == pytest.approx(expected[name], rel=1e-4)
    assert metrics["eval_loss"] == pytest.approx(np.nanmean((outputs - y).square()), rel=1e-5)


def run_on_embeddings(folder, student, teacher, *, resume=False, **settings):
    x = draw(24, 6).double()
    args = arguments(folder, task="embeddings", seed=5, save_strategy="steps", save_steps=2, **settings)
    trainer = DistillationTrainer(student, teacher, args, train_dataset=[{"x": row} for row in x])
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_training_of_embeddings_is_the_loop_by_hand(tmp_path):
    """The widths differ: a linear map is trained with the student, is kept in checkpoints, and is not saved with it."""
    torch.manual_seed(0)
    teacher, student, twin, again = (nn.Linear(6, width).double() for width in (5, 3, 3, 3))
    for other in (twin, again):
        other.load_state_dict(student.state_dict())
    optim = {"optim": "adamw_torch"}
    trainer = run_on_embeddings(tmp_path / "run", student, teacher, **optim)
    torch.manual_seed(5)
    projector = nn.Linear(3, 5).double()
    optimiser = torch.optim.AdamW([*twin.parameters(), *projector.parameters()], lr=0.05, weight_decay=0.0)
    for x in draw(24, 6).double().split(8):
        loss = F.mse_loss(projector(twin(x)), teacher(x).detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert_alike(student, twin)
    assert trainer.state.log_history[2]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert trainer.state.log_history[2]["agreement"] <= 1
    run_on_embeddings(tmp_path / "again", again, teacher, max_steps=2, **optim)
    run_on_embeddings(tmp_path / "again", again, teacher, resume=True, **optim)
    assert_alike(again, twin)
    trainer.save_model(str(tmp_path / "saved"))
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["model.safetensors"]


def test_embeddings_of_one_width_are_evaluated(tmp_path):
    x, teacher = draw(8, 6), nn.Linear(6, 3)
    data = [{"x": row, "labels": teacher(row).detach()} for row in x]
    args = arguments(tmp_path, task="embeddings")
    trainer = DistillationTrainer(nn.Linear(6, 3), teacher, args, eval_dataset=data)
    trainer.student.load_state_dict(teacher.state_dict())
    assert trainer.evaluate()["eval_cosine"] == pytest.approx(1.0)
    narrow = DistillationTrainer(nn.Linear(6, 2), teacher, args, eval_dataset=data)
    with pytest.raises(ArgumentError, match=r"labels: shape \(8, 3\), and the student's embeddings have \(8, 2\)"):
        narrow.evaluate()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 2.0}, "temperature: these outputs are numbers"),
        ({"temperature": {"policy": "linear", "start": 4.0, "end": 4.0}}, "temperature: these outputs are numbers"),
        ({"teacher_temperature": 4.0}, "teacher_temperature: these outputs are numbers"),
        ({"divergence": "reverse_kl"}, "divergence: .* for the classes of a softmax"),
        ({"teacher_outputs": "probabilities"}, "teacher_outputs: "),
        ({"task": "embeddings", "alpha": 0.5}, "alpha: embeddings have no labels"),
        ({"task": "classification", "distance": "cosine"}, "distance: is for the tasks regression and embeddings"),
        ({"distance": "l1"}, "distance: expected one of 'mse', 'cosine'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        DistillationTrainer(Net(), Net(24), arguments(tmp_path, **{"task": "regression", **settings}))


def test_teachers_of_something_else_are_refused(tmp_path):
    forest = RandomForestClassifier(2).fit(np.zeros((4, 6)), [0, 1, 2, 3])
    line = LinearRegression().fit(np.zeros((4, 6)), np.zeros((4, 4)))
    ensemble = Ensemble([Net(24), Net(24)])
    for task, teacher, message in (
        ("regression", forest, "RandomForestClassifier gives probabilities of one class"),
        ("classification", line, "LinearRegression gives numbers"),
        ("regression", ensemble, "Set average='logits'"),
    ):
        with pytest.raises(ArgumentError, match=f"teacher: .*{message}"):
            DistillationTrainer(Net(), teacher, arguments(tmp_path, task=task))


def test_a_regressor_teaches(tmp_path):
    """A linear student becomes the line of its teacher, at any width of the labels."""
    x = draw(64, 6)
    line = LinearRegression().fit(x.numpy(), (x @ draw(6, seed=1) + 3).numpy())
    args = arguments(tmp_path, task="regression", alpha=1.0, max_steps=100, per_device_train_batch_size=32)
    student = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))  # gives (N,)
    DistillationTrainer(student, line, args, train_dataset=[{"x": row} for row in x]).train()
    assert student[0].weight.detach().numpy()[0] == pytest.approx(line.coef_, abs=1e-2)
    assert student[0].bias.item() == pytest.approx(3.0, abs=1e-2)
