"""One batch through a model finds what a training would end in, hours later."""

import json

import pytest
import torch
from torch import nn

from limbeck.data import DataConfig, load_splits
from limbeck.errors import ConfigError
from limbeck.run.classes import check_student, in_order_of_data
from limbeck.run.first_batch import check_outputs, look_batches
from support.texts import word_tokenizer, write_csv


@pytest.fixture(scope="module")
def digits():
    return load_splits(DataConfig())


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    word_tokenizer().save_pretrained(folder / "tokenizer")
    write_csv(folder / "t.csv", [" ".join(["w1"] * (i + 1)) for i in range(20)], [i % 2 for i in range(20)])
    return load_splits(DataConfig(name=str(folder / "t.csv"), tokenizer=str(folder / "tokenizer")))


class Returns(nn.Module):
    """A model that returns, or raises, whatever a function makes of its images."""

    def __init__(self, function, **config):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.zeros(1))
        self.config = type("Config", (), config)()

    def forward(self, pixel_values):
        return self.function(pixel_values.flatten(1)[:, :10])


def said(check, *arguments, **options):
    with pytest.raises(ConfigError) as caught:
        check(*arguments, **options)
    return list(caught.value.faults)


def broken(images):
    raise RuntimeError("mat1 and mat2 must have the same dtype\nand more")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: None, "returned NoneType. Expected logits"),
        (lambda x: {"hidden": x}, "returned dict with hidden. Expected logits"),
        (lambda x: (x, x + 1), r"returned tuple of a tensor of shape (8, 10), a tensor of shape (8, 10)"),
        (lambda x: x.long(), "returned int64. Expected logits"),
        (lambda x: x / 0, "its logits of the first training examples are not finite"),
        (lambda x: x - torch.inf, "are not finite"),
        (lambda x: x.softmax(-1), "probabilities, not logits. Set teacher.outputs: probabilities."),
        (broken, "Returns fails on the first examples (pixel_values (8, 1, 8, 8) float32): mat1 and mat2 must have the same"),
    ],
)  # fmt: skip
def test_what_a_teacher_must_not_return(digits, function, message):
    (fault,) = said(check_outputs, Returns(function), digits, "teacher.model")
    assert fault.startswith("teacher.model: ")
    assert message in fault
    assert "\n" not in fault


def test_every_fault_of_an_output_is_said(digits):
    wrong = said(check_student, Returns(lambda x: x[:, :3] * torch.nan), digits)
    assert [fault.partition(".")[2][:25] for fault in wrong] == [
        "model: has 3 output colum",
        "model: its logits of the ",
    ]


def test_a_student_without_a_weight_to_train_is_refused(digits):
    assert (
        "no weights that can be trained" in said(check_student, Returns(lambda x: x).requires_grad_(False), digits)[0]
    )


def test_the_mode_and_the_random_numbers_are_left_as_they_are(digits):
    model = Returns(lambda x: torch.nn.functional.dropout(x, 0.5))
    state = torch.get_rng_state()
    check_student(model, digits)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def bert(**changes):
    from transformers import BertConfig, BertForSequenceClassification

    small = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=30)
    return BertForSequenceClassification(BertConfig(**(small | changes)))


def test_the_longest_text_is_among_those_that_are_looked_at(texts):
    assert [batch["input_ids"].shape[1] for batch in look_batches(texts)][-1] == 20
    check_student(bert(max_position_embeddings=20), texts)
    (fault,) = said(check_student, bert(max_position_embeddings=19), texts)
    assert fault.startswith("data.max_length: a text has 20 tokens, and student.model has 19 positions")
    (fault,) = said(check_student, bert(vocab_size=3), texts)
    assert fault.startswith("data.tokenizer: gives the id 3, and student.model knows 3 tokens")


class TestImages:
    """A trained teacher is asked about images as it was trained on, where its folder or its config tells."""

    def test_another_size_in_a_config(self, digits):
        for size in (224, (224, 224)):
            teacher = Returns(lambda x: x - 1, image_size=size)
            (fault,) = said(in_order_of_data, teacher, None, digits)
            assert fault.startswith("data.image_size: the teacher was trained on images of 224 x 224, says its config")
        in_order_of_data(Returns(lambda x: x - 1, image_size=8), None, digits)

    def test_another_format_in_a_runs_folder(self, digits, tmp_path):
        saved = {"labels": digits.label_names, "max_length": 128}
        image = {"size": [16, 16], "channels": 3, "mean": [0.5, 0.5, 0.5], "std": 1.0}
        (tmp_path / "inputs.json").write_text(json.dumps({**saved, "image": image}))
        faults = said(in_order_of_data, Returns(lambda x: x - 1), tmp_path, digits)
        assert [fault.partition(":")[0] for fault in faults] == ["data.image_size", "data.channels", "data.mean"]
        same = {"size": [8, 8], "channels": 1, "mean": 0.0, "std": [1.0]}
        (tmp_path / "inputs.json").write_text(json.dumps({**saved, "image": same}))
        in_order_of_data(Returns(lambda x: x - 1), tmp_path, digits)

    def test_all_faults_of_a_teacher_are_said(self, digits):
        faults = said(in_order_of_data, Returns(lambda x: x[:, :9] * torch.inf, image_size=4), None, digits)
        assert len(faults) == 2
