"""Predictions for new inputs at T = 1, for each kind of task."""

import itertools

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch import nn

from limbeck.data import NumberFormat, Preprocessing
from limbeck.data.images import ImageFormat
from limbeck.data.tables import TableFormat
from limbeck.errors import ArgumentError, DataError, ModelError
from limbeck.inference import Predictor
from limbeck.models import MLP
from support.language import llama, tokenizer
from support.texts import pair_tokenizer, word_tokenizer

IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4) * 5
FORMAT = ImageFormat((4, 4), 1)
NAMES = ["cat", "dog", "owl"]


def images(**settings):
    return Predictor(MLP(16, 3, [5]), Preprocessing(settings.pop("labels", NAMES), FORMAT, **settings))


def logits_of(predictor):
    """The student's own logits, of pixels that are divided by hand."""
    with torch.no_grad():
        return predictor.model(torch.from_numpy(IMAGES).float()[:, None] / 255)


def test_one_class_is_answered_as_scikit_learn_answers(tmp_path):
    predictor = images()
    expected = logits_of(predictor).softmax(-1).numpy()
    np.testing.assert_allclose(predictor.predict_proba(IMAGES), expected, rtol=1e-5)
    assert predictor.classes_.tolist() == NAMES
    assert predictor.predict(IMAGES).tolist() == [NAMES[i] for i in expected.argmax(1)]
    Image.fromarray(IMAGES[1]).save(tmp_path / "one.png")
    mixed = [tmp_path / "one.png", str(tmp_path / "one.png"), Image.fromarray(IMAGES[1]), IMAGES[1]]
    np.testing.assert_allclose(predictor.predict_proba(mixed), expected[[1] * 4], rtol=1e-5)
    frame = pandas.DataFrame({"image": [str(tmp_path / "one.png")], "id": [7]})
    assert next(predictor.stream(frame)).columns == {"id": 7}


def test_a_scale_of_the_logits_is_applied_once_and_only_on_request():
    plain = images()
    scaled = Predictor(plain.model, plain.preprocessing, logit_scale=0.5)
    np.testing.assert_allclose(scaled.predict_proba(IMAGES), (logits_of(plain) / 2).softmax(-1).numpy(), rtol=1e-5)
    assert next(scaled.stream(IMAGES)).probabilities["cat"] == pytest.approx(scaled.predict_proba(IMAGES)[0, 0])


def test_several_labels_are_zeros_and_ones():
    predictor = images(task="multi_label")
    np.testing.assert_allclose(predictor.predict_proba(IMAGES), logits_of(predictor).sigmoid().numpy(), rtol=1e-5)
    np.testing.assert_array_equal(predictor.predict(IMAGES), (logits_of(predictor) > 0).int().numpy())


def test_numbers_have_the_unit_of_their_column_and_no_probabilities():
    predictor = images(
        task="regression", labels=["a", "b", "c"], target=NumberFormat([1.0, 2.0, 3.0], [10.0, 1.0, 0.1])
    )
    expected = logits_of(predictor) * torch.tensor([10.0, 1.0, 0.1]) + torch.tensor([1.0, 2.0, 3.0])
    np.testing.assert_allclose(predictor.predict(IMAGES), expected.numpy(), rtol=1e-5)
    for ask in (lambda: predictor.predict_proba(IMAGES), lambda: predictor.classes_):
        with pytest.raises(ModelError, match=r"predicts numbers \(regression\), which have no probabilities"):
            ask()


def test_one_number_is_a_vector():
    read = Preprocessing(
        ["y"], None, task="regression", table=TableFormat({"x": [1.0, 2.0]}, {}), target=NumberFormat([0.0], [3.0])
    )
    model = MLP(1, 1, [])
    frame = pandas.DataFrame({"x": [1.0, 3.0, 5.0], "other": "z"})
    with torch.no_grad():
        expected = 3 * model(torch.tensor([[0.0], [1.0], [2.0]]))[:, 0]
    predicted = Predictor(model, read).predict(frame)
    assert predicted.shape == (3,)
    np.testing.assert_allclose(predicted, expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(Predictor(model, read).predict([{"x": 3.0}]), predicted[1:2])


def test_pixels_have_the_size_of_the_image():
    read = Preprocessing(NAMES, ImageFormat((4, 4), 1), task="dense_prediction", values=[0, 1, 2])
    predictor = Predictor(nn.Conv2d(1, 3, 1), read)
    wide = np.full((6, 9), 100, np.uint8)
    masks, probabilities = predictor.predict([wide, IMAGES[0]]), predictor.predict_proba([wide, IMAGES[0]])
    assert [mask.shape for mask in masks] == [(6, 9), (4, 4)]
    assert [each.shape for each in probabilities] == [(6, 9, 3), (4, 4, 3)]
    with torch.no_grad():
        expected = predictor.model(torch.from_numpy(IMAGES[:1]).float()[:, None] / 255)[0].softmax(0).permute(1, 2, 0)
    np.testing.assert_allclose(probabilities[1], expected.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(masks[1], expected.argmax(-1).numpy())


class Embedded(nn.Module):
    """Logits of each token that depend on nothing else; their mean where a text has one answer."""

    def __init__(self, *, mean: bool) -> None:
        super().__init__()
        self.table, self.mean = nn.Embedding(40, 3), mean

    def forward(self, input_ids):
        return self.table(input_ids).mean(1) if self.mean else self.table(input_ids)


def test_words_have_tags_and_those_without_a_token_have_none():
    words = word_tokenizer()
    predictor = Predictor(Embedded(mean=False), Preprocessing(NAMES, None, words, 2, "token_classification"))
    table = predictor.model.table.weight.detach()
    first, second = predictor.predict(["w1 w2 w3", ["w4"]])
    assert first == [NAMES[table[3].argmax()], NAMES[table[4].argmax()], None]
    assert len(second) == 1
    probabilities = predictor.predict_proba(["w1 w2 w3"])[0]
    np.testing.assert_allclose(probabilities[1], table[4].softmax(-1).numpy(), rtol=1e-5)
    assert np.isnan(probabilities[2]).all()
    assert [word for word, _, _ in next(predictor.stream(["w1 w2 w3"])).tags] == ["w1", "w2"]


def test_pairs_are_rows_or_tuples():
    read = Preprocessing(NAMES, None, pair_tokenizer(), 16, column=["premise", "hypothesis"])
    predictor = Predictor(Embedded(mean=True), read)
    rows = [{"premise": "w1", "hypothesis": "w2 w3"}, {"premise": "w4", "hypothesis": "w5 w6"}]
    expected = predictor.predict_proba(rows)
    np.testing.assert_array_equal(predictor.predict_proba([tuple(row.values()) for row in rows]), expected)
    np.testing.assert_array_equal(predictor.predict_proba(pandas.DataFrame(rows).assign(id=1)), expected)
    with pytest.raises(DataError, match=r"expected two texts, or a row with the columns premise, hypothesis, got 'w1'"):
        predictor.predict(["w1"])


def test_a_language_model_writes_texts():
    predictor = Predictor(llama(), Preprocessing([], None, tokenizer(), task="causal_lm"))
    assert [len(text.split()) <= 3 for text in predictor.predict(["w1 w2", "w3"], max_new_tokens=3)] == [True, True]
    with pytest.raises(ModelError, match="a probability for each token of its vocabulary"):
        predictor.predict_proba(["w1"])


@pytest.mark.parametrize("single", ["a.png", {"x": 1}, Image.new("L", (4, 4))], ids=["text", "row", "image"])
def test_a_single_input_is_refused(single):
    with pytest.raises(ArgumentError, match=r"inputs: expected a list, got one \w+\. Put it in a list\."):
        images().predict(single)


def test_what_cannot_be_read_is_named_and_does_not_stop_a_stream():
    predictor, broken = images(), np.zeros(3)
    assert [one.error is None for one in predictor.stream([IMAGES[0], broken, IMAGES[1]])] == [True, False, True]
    with pytest.raises(DataError, match="input 1"):
        predictor.predict([IMAGES[0], broken])
    with pytest.raises(DataError, match="there are none"):
        predictor.predict([])


def test_a_stream_takes_what_does_not_end():
    predictor = images()
    endless = predictor.stream(itertools.repeat(IMAGES[0]))
    assert [next(endless).label for _ in range(300)] == [predictor.predict(IMAGES[:1])[0]] * 300
