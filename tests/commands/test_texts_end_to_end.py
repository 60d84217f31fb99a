"""A text classifier through the whole road: a BERT teacher, a smaller BERT student, files, two tokenised columns."""

import json

import pytest
from transformers import AutoTokenizer

from limbeck.commands.distill import distill
from limbeck.commands.evaluate import evaluate
from limbeck.commands.predict import predict
from limbeck.config import config_from
from limbeck.errors import DataError
from limbeck.models import load_model
from support.texts import BAD, FILLER, GOOD, pair_tokenizer, write_models


@pytest.fixture
def shop(tmp_path):
    """Reviews whose mood is told by their words, a tokenizer and two untrained BERTs as a hub would give them."""
    write_models(tmp_path, large=32, small=8)
    with (tmp_path / "reviews.jsonl").open("w") as file:
        for i in range(240):
            mood = (GOOD, BAD)[i % 2]
            text = " ".join([FILLER[i % 5], FILLER[i % 3], mood[i % 3], FILLER[i % 4]][: 3 + i // 2 % 2])
            file.write(json.dumps({"text": text, "label": ("good", "bad")[i % 2]}) + "\n")
    return tmp_path


def test_distil_a_text_classifier(shop):
    config = config_from(
        {
            "out": str(shop / "run"),
            "data": {"name": str(shop / "reviews.jsonl"), "tokenizer": str(shop / "large"), "labelled": 40},
            "teacher": {"model": str(shop / "large"), "training": {"max_steps": 60, "learning_rate": 3e-3}},
            "student": {"model": str(shop / "small"), "from_scratch": True},
            "distillation": {"temperature": 2.0},
            "training": {"max_steps": 120, "learning_rate": 1e-2, "per_device_train_batch_size": 16},
        }
    )
    folder = distill(config)
    results = evaluate(folder)
    assert results["teacher"]["accuracy"] == 1.0
    assert results["student"]["accuracy"] > 0.95
    said = list(predict(folder, ["the film was lovely", "and was sad"]))
    assert [prediction.label for prediction in said] == ["good", "bad"]

    # the student loads with Transformers alone, tokenizer included, and names its classes
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder / "student"))
    answers = classify(["the film was lovely", "and was sad"])
    assert [answer["label"] for answer in answers] == ["good", "bad"]
    assert answers[0]["score"] == pytest.approx(said[0].probabilities["good"], rel=1e-4)


def test_distil_a_classifier_of_pairs(tmp_path):
    """The second text of a pair tells the class; the first one says nothing."""
    write_models(tmp_path, pair_tokenizer([*GOOD, *BAD, *FILLER], model_max_length=16), large=32, small=8)
    with (tmp_path / "pairs.jsonl").open("w") as file:
        for i in range(160):
            row = {"premise": " ".join(FILLER[: 2 + i % 3]), "hypothesis": f"so {(GOOD, BAD)[i % 2][i // 4 % 3]}"}
            file.write(json.dumps({**row, "label": ("good", "bad")[i % 2]}) + "\n")
    data = {
        "name": str(tmp_path / "pairs.jsonl"), "text_column": ["premise", "hypothesis"],
        "tokenizer": str(tmp_path / "large"), "labelled": 60,
    }  # fmt: skip
    folder = distill(
        config_from(
            {
                "out": str(tmp_path / "run"),
                "data": data,
                "teacher": {"model": str(tmp_path / "large"), "training": {"max_steps": 60, "learning_rate": 1e-2}},
                "student": {"model": str(tmp_path / "small"), "from_scratch": True},
                "training": {"max_steps": 4},
            }
        )
    )
    assert evaluate(folder)["teacher"]["accuracy"] > 0.9
    (tmp_path / "new.csv").write_text("id,hypothesis,premise\n7,so sad,the film\n8,so fine,the film was\n")
    said = list(predict(folder, [tmp_path / "new.csv"]))
    assert [prediction.columns for prediction in said] == [{"id": 7}, {"id": 8}]
    model, tokenizer = load_model(folder / "student"), AutoTokenizer.from_pretrained(folder / "student")
    for prediction, pair in zip(said, (("the film", "so sad"), ("the film was", "so fine")), strict=True):
        row = model(**tokenizer(*pair, return_tensors="pt")).logits.softmax(-1)[0]
        assert list(prediction.probabilities.values()) == pytest.approx(row.tolist(), rel=1e-4)
    for given, message in (("the film was sad", "no such file. The student reads rows"), ("-", "no such file")):
        with pytest.raises(DataError, match=message):
            list(predict(folder, [given]))
