"""Several labels at once: metrics against scikit-learn, and a training against the same loop by hand."""

import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, hamming_loss, log_loss
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.models import LogProbabilities
from limbeck.tasks import MultiLabel, recognise, resolve_task, task_of_data
from limbeck.teachers import Ensemble
from support.workbench import CLASSES, Net, bert

TASK = MultiLabel()


def examples(count=24):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, 6, generator=generator)
    labels = torch.randint(0, 2, (count, CLASSES), generator=generator).float()
    return [{"x": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]


def test_metrics_against_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 4, generator=generator)
    labels = torch.randint(0, 2, (60, 4), generator=generator).float()
    known = labels[:50]
    labels[50:] = -100
    truth, right = known.numpy(), (logits[:50] > 0).float().numpy()
    probabilities = logits[:50].double().sigmoid().numpy()
    assert TASK.metrics(logits, labels, teacher_logits=-logits) == pytest.approx(
        {
            "accuracy": accuracy_score(truth, right),
            "class_accuracy": 1 - hamming_loss(truth, right),
            "mean_average_precision": average_precision_score(truth, logits[:50].numpy(), average="macro"),
            "nll": sum(log_loss(truth[:, c], probabilities[:, c]) for c in range(4)),
            "agreement": 0.0,
        }
    )
    assert set(TASK.metrics(logits, labels)) == set(TASK.columns) - {"agreement"}
    with pytest.raises(ArgumentError, match=r"labels: expected some for logits of shape \(10, 4\)"):
        TASK.metrics(logits[50:], labels[50:])


def test_a_class_that_nobody_has_is_left_out_of_the_mean():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert TASK.metrics(torch.tensor([[2.0, 1.0], [-2.0, 1.0]]), labels)["mean_average_precision"] == 1


def test_a_label_between_0_and_1_counts_as_the_nearer_of_both():
    torch.manual_seed(0)
    logits, soft = torch.randn(40, CLASSES), torch.rand(40, CLASSES)
    soft[0] = 0.5  # as a probability of 1/2 does: not there
    truth = (soft > 0.5).float()
    counted, expected = TASK.metrics(logits, soft), TASK.metrics(logits, truth)
    assert counted.pop("nll") == pytest.approx(
        binary_cross_entropy_with_logits(logits.double(), soft.double(), reduction="none").sum(-1).mean().item()
    )
    del expected["nll"]
    assert counted == expected
    assert counted["class_accuracy"] == ((logits > 0) == (truth > 0)).double().mean().item()


def test_a_teacher_of_probabilities(tmp_path):
    def args(**settings):
        return DistillationArguments(
            str(tmp_path),
            task="multi_label",
            use_cpu=True,
            disable_tqdm=True,
            max_steps=1,
            save_strategy="no",
            **settings,
        )

    teacher, data = Net(24), examples()
    probabilities = nn.Sequential(teacher, nn.Sigmoid())
    with pytest.raises(ArgumentError, match=r"teacher_outputs: .*LogProbabilities\(model, 'sigmoid'\)"):
        DistillationTrainer(Net(), probabilities, args(teacher_outputs="probabilities"), train_dataset=data)
    with pytest.raises(ArgumentError, match=r"teacher: averages probabilities .*average='logits'"):
        DistillationTrainer(Net(), Ensemble([teacher, Net(24)]), args(), train_dataset=data)
    losses = []
    for source in (teacher, LogProbabilities(probabilities, "sigmoid")):
        torch.manual_seed(1)
        losses.append(DistillationTrainer(Net(), source, args(), train_dataset=data).train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_every_example_counts_with_or_without_labels():
    labels = torch.tensor([[1.0, 0.0], [-100.0, -100.0], [0.0, -100.0]])
    targets = TASK.targets({"x": torch.zeros(3, 6), "labels": labels})
    assert targets.mask.tolist() == [True, True, True]
    assert TASK.labelled(labels).tolist() == [True, False, True]
    scores = TASK.scores(torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]]), labels)
    assert scores["accuracy"].tolist() == [0, 0, 1]
    assert scores["class_accuracy"].tolist() == [0.5, 0, 1]
    assert TASK.targets({"x": torch.zeros(3, 6)}).labels is None
    with pytest.raises(ArgumentError, match=r"labels: shape \(3,\): one for each example"):
        TASK.targets({"labels": torch.tensor([1, 0, 1])})


def test_what_is_told():
    label, probabilities = TASK.tell(torch.tensor([2.0, -1.0, 0.5]), ["cat", "dog", "owl"])
    assert label == "cat, owl"
    assert probabilities["dog"] == pytest.approx(torch.tensor(-1.0).sigmoid().item())
    assert TASK.tell(torch.tensor([-2.0, -1.0]), ["cat", "dog"])[0] == "none"
    assert TASK.confidence(torch.tensor([[0.0, 30.0]])).item() == pytest.approx(0.75)


def test_how_it_is_recognised():
    student = bert()
    student.config.problem_type = "multi_label_classification"
    assert recognise(student) == "multi_label"
    assert isinstance(resolve_task("auto", student), MultiLabel)
    with pytest.raises(
        ArgumentError, match=r"task: the labels of the data are for classification, .*made for multi_label"
    ):
        task_of_data("classification", student)
    assert isinstance(task_of_data("multi_label", Net()), MultiLabel)
    with pytest.raises(ArgumentError, match=r"task: the student is a module of your own.*task='multi_label'"):
        resolve_task("auto", Net()).targets({"x": torch.zeros(2, 6), "labels": torch.zeros(2, CLASSES)})


@pytest.mark.parametrize("temperature", [3.0, {"policy": "linear", "start": 3.0, "end": 3.0}])
def test_a_training_is_the_loop_by_hand(temperature, tmp_path):
    torch.manual_seed(0)
    teacher, student, twin, data = Net(24), Net(), Net(), examples()
    twin.load_state_dict(student.state_dict())
    args = DistillationArguments(
        str(tmp_path), task="multi_label", temperature=temperature, alpha=0.7, use_cpu=True, disable_tqdm=True, max_steps=3,
        per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=0.05, lr_scheduler_type="constant",
        optim="sgd", max_grad_norm=0.0, train_sampling_strategy="sequential", logging_steps=1, save_strategy="no",
    )  # fmt: skip
    trainer = DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data)
    trainer.train()
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05)
    for rows in torch.arange(24).split(8):
        x, y = (torch.stack([data[int(i)][name] for i in rows]) for name in ("x", "labels"))
        z, t = twin(x), teacher(x).detach()
        no_yes = [
            torch.stack([-v / 6, v / 6], -1).log_softmax(-1) for v in (z, t)
        ]  # the softmax of (0, v / 3), centred
        soft = 9 * kl_div(*no_yes, reduction="none", log_target=True).sum((-1, -2)).mean()
        hard = binary_cross_entropy_with_logits(z, y, reduction="none").sum(-1).mean()
        optimiser.zero_grad()
        (0.7 * soft + 0.3 * hard).backward()
        optimiser.step()
    for got, expected in zip(student.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    logits = student.eval()(torch.stack([row["x"] for row in data])).detach()
    expected = TASK.metrics(logits, torch.stack([row["labels"] for row in data]))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected["nll"], rel=1e-5)
    for name in ("accuracy", "class_accuracy"):
        assert metrics[f"eval_{name}"] == pytest.approx(expected[name])
    assert 0 <= trainer.state.log_history[0]["agreement"] <= 1


def test_a_policy_that_reads_a_softmax_is_refused(tmp_path):
    args = DistillationArguments(str(tmp_path), task="multi_label", temperature={"policy": "max_logit"}, use_cpu=True)
    with pytest.raises(ArgumentError, match="temperature: the policy 'max_logit' reads the softmax"):
        DistillationTrainer(Net(), Net(24), args, train_dataset=examples())


def test_one_column_is_enough(tmp_path):
    data = [{"x": torch.randn(6), "labels": torch.tensor([float(i % 2)])} for i in range(8)]
    args = DistillationArguments(str(tmp_path), task="multi_label", use_cpu=True, max_steps=1, disable_tqdm=True)
    trainer = DistillationTrainer(nn.Linear(6, 1), nn.Linear(6, 1), args, train_dataset=data, eval_dataset=data)
    assert trainer.train().global_step == 1
    assert trainer.evaluate()["eval_accuracy"] >= 0
