"""A text classifier through the whole road: a BERT teacher, a smaller BERT student, files, two tokenised columns."""

import json

import pytest

from limbeck.commands.distill import distill
from limbeck.commands.evaluate import evaluate
from limbeck.commands.predict import predict
from limbeck.config import config_from
from support.texts import BAD, FILLER, GOOD, write_models


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
