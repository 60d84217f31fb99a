"""Every command with numbers to predict, taught by a regressor of scikit-learn, and with embeddings of texts."""

import json
import re

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from skops import io

from limbeck.data import DataConfig, load_splits
from limbeck.models import load_model
from support.command_line import limbeck, run_limbeck
from support.runs import options
from support.tagged import write_tagger
from support.texts import BAD, FILLER, GOOD, word_tokenizer, write_reviews
from support.without_classes import write_diabetes, write_sentence_model

CONFIG = """\
task: regression
data: {name: FOLDER/data.csv, labelled: 40}
teacher: {sklearn: FOLDER/teacher.skops}
student: {model: mlp, settings: {hidden: [8]}}
training: {max_steps: 40, per_device_train_batch_size: 16, learning_rate: 1e-2, save_strategy: "no", logging_steps: 20}
compare: {seeds: 1}
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    write_diabetes(folder / "data.csv")
    splits = load_splits(DataConfig(str(folder / "data.csv")), task="regression")
    known = pandas.read_csv(folder / "data.csv").iloc[splits.train.ids.numpy()]
    teacher = Ridge().fit(known.drop(columns="target"), known["target"])
    io.dump(teacher, folder / "teacher.skops")
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)))
    return config, folder / "run", splits, teacher, run_limbeck("compare", config, "--out", folder / "run")


def test_compare(compared):
    """The teacher's metrics are scikit-learn's, in the unit of the column."""
    _, run, splits, teacher, printed = compared
    told = json.loads((run / "metrics.json").read_text())
    test = splits.test.as_one_batch()
    truth = splits.preprocessing.target.undo(test["labels"]).numpy()
    predicted = teacher.predict(splits.preprocessing.table.rows(test["inputs"]))
    assert told["teacher"]["r2"] == pytest.approx(r2_score(truth, predicted), rel=1e-4)
    assert told["teacher"]["mae"] == pytest.approx(mean_absolute_error(truth, predicted), rel=1e-4)
    assert list(told["arms"]) == ["labels alone", "labels + teacher's numbers", "transfer set, teacher's numbers"]
    arm = told["arms"]["transfer set, teacher's numbers"]
    assert min(arm["r2_of_teacher"]) > 0.5
    assert set(arm) >= {"r2", "mae", "rmse", "validation_r2"}
    for text in ("R²", "RMSE", "R² of teacher's", "in R²", "without a temperature", "numbers: target"):
        assert text in printed
    assert (run / "report.html").is_file()


def test_evaluate_and_predict(compared, capsys):
    config, run, splits, _, _ = compared
    status, out, _ = limbeck(capsys, "evaluate", run)
    assert status == 0
    assert "RMSE" in out
    status, out, _ = limbeck(capsys, "predict", run, config.parent / "data.csv", "--json")
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[0]["label"] == f"{rows[0]['numbers']['target']:.6g}"
    told = np.array([row["numbers"]["target"] for row in rows])
    truth = np.array([row["columns"]["target"] for row in rows])
    assert told.mean() == pytest.approx(truth.mean(), rel=0.15)
    student = load_model(run / "student")
    with torch.no_grad():
        raw = splits.preprocessing.target.undo(student(splits.test.as_one_batch()["inputs"]))
    assert min(abs(told - raw[0].item())) < 1e-2


def test_distill_from_a_store(compared, tmp_path, capsys):
    config, _, splits, teacher, _ = compared
    status, out, _ = limbeck(capsys, "cache", "build", config, "--out", tmp_path / "store")
    assert status == 0
    assert "Dense(dtype='float32')" in out
    assert "log p" not in out
    cached = options(f"teacher={{cache: {tmp_path / 'store'}}}", "training.max_steps=4")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *cached)
    assert status == 0, err
    page = (tmp_path / "run" / "report.html").read_text()
    facts = page.split("What ran")[1]
    assert "mse between outputs, without a temperature" in facts
    assert "forward_kl" not in facts
    from limbeck.store import TeacherStore

    stored = TeacherStore(tmp_path / "store").look_up(splits.train.ids).logits
    predicted = torch.from_numpy(
        teacher.predict(splits.preprocessing.table.rows(splits.train.as_one_batch()["inputs"]))
    ).unsqueeze(-1)
    torch.testing.assert_close(stored, splits.preprocessing.target(predicted).float(), rtol=1e-5, atol=1e-5)
    rows = (config.parent / "data.csv").read_text().splitlines()
    moved = tmp_path / "data.csv"  # the same inputs, with the label ten times as large
    moved.write_text("\n".join([rows[0], *(f"{row}e1" for row in rows[1:])]))
    status, _, err = limbeck(
        capsys, "distill", config, "--out", tmp_path / "x", *cached, *options(f"data.name={moved}")
    )
    assert status == 2
    assert "teacher.cache: " in err
    assert "standardised by" in err


@pytest.mark.parametrize(
    ("command", "setting", "message"),
    [
        ("distill", "distillation.temperature=2", "distillation.temperature: these outputs are numbers"),
        ("distill", "distillation.divergence=jsd", "distillation.divergence: .* is for the classes of a softmax"),
        ("distill", "distillation.distance=cosine", "distillation.distance: the cosine of single numbers"),
        ("distill", "distillation.temperature=auto", "task: regression has no softmax, so there is no temperature"),
        ("search", "seed=0", "task: regression has no softmax, so there is no temperature"),
        ("analyze", "seed=0", "task: limbeck temperature analyze knows one class out of all"),
        (
            "cache",
            "cache.format=topk",
            "cache.format: topk; dense serves all tasks.* these data are regression",
        ),
    ],
)
def test_what_does_not_fit_is_refused(command, setting, message, compared, tmp_path, capsys):
    words = {"search": ("temperature", "search"), "analyze": ("temperature", "analyze"), "cache": ("cache", "build")}
    status, _, err = limbeck(
        capsys, *words.get(command, (command,)), compared[0], "--out", tmp_path / "x", *options(setting)
    )
    assert status == 2
    assert re.search(message, err), err
    assert not (tmp_path / "x").exists()


EMBEDDINGS = """\
task: embeddings
data: {name: FOLDER/data.csv, text_column: text, tokenizer: FOLDER/student}
teacher: {model: FOLDER/teacher}
student: {model: FOLDER/student}
training: {max_steps: 6, per_device_train_batch_size: 8, learning_rate: 1e-2, logging_steps: 3}
compare: {seeds: 1}
"""


@pytest.fixture
def sentences(tmp_path):
    pytest.importorskip("sentence_transformers")
    write_reviews(tmp_path / "data.csv")
    write_sentence_model(tmp_path / "teacher", 8)
    write_sentence_model(tmp_path / "student", 4)
    (tmp_path / "config.yaml").write_text(EMBEDDINGS.replace("FOLDER", str(tmp_path)))
    return tmp_path


def test_embeddings_of_another_width(sentences, capsys):
    """The student is saved as a model of sentence-transformers, without the linear map to the teacher's width."""
    from sentence_transformers import SentenceTransformer

    status, out, err = limbeck(capsys, "compare", sentences / "config.yaml", "--out", sentences / "run")
    assert status == 0, err
    assert "alpha = 1, since embeddings have no labels" in out
    assert "rank correlation of similarities" in out
    status, out, err = limbeck(capsys, "predict", sentences / "run", "the film was great", "--json")
    assert status == 0, err
    saved = SentenceTransformer(str(sentences / "run" / "student"), device="cpu")
    told = list(json.loads(out)["numbers"].values())
    assert told == pytest.approx(saved.encode("the film was great").tolist(), abs=1e-5)
    assert len(told) == 4
    status, out, err = limbeck(capsys, "evaluate", sentences / "run")
    assert status == 0, err
    config, store = sentences / "config.yaml", sentences / "store"
    assert "Dense(dtype='float32')" in run_limbeck("cache", "build", config, "--out", store)
    for name, source in (("live", []), ("stored", [f"teacher={{cache: {store}}}"])):
        run_limbeck("distill", config, "--out", sentences / name, *options(*source, 'training.save_strategy="no"'))
    live, stored = (load_file(sentences / name / "student" / "model.safetensors") for name in ("live", "stored"))
    for name, tensor in stored.items():
        torch.testing.assert_close(tensor, live[name], rtol=1e-3, atol=1e-5)
    trained = options("teacher={model: mlp, training: {max_steps: 1}}")
    status, _, err = limbeck(capsys, "distill", sentences / "config.yaml", "--out", sentences / "x", *trained)
    assert status == 2


@pytest.mark.slow
def test_numbers_of_texts_from_a_store(tmp_path):
    """A model of Transformers knows its number by name; the store knows the name with the unit."""
    write_reviews(tmp_path / "data.csv")
    write_tagger(tmp_path / "bert", 8, word_tokenizer([*GOOD, *BAD, *FILLER]))
    config = tmp_path / "config.yaml"
    config.write_text(
        "task: regression\n"
        f"data: {{name: {tmp_path}/data.csv, tokenizer: {tmp_path}/bert}}\n"
        f"teacher: {{model: {tmp_path}/bert, from_scratch: true, training: {{max_steps: 1}}}}\n"
        f"student: {{model: {tmp_path}/bert, from_scratch: true}}\n"
        'training: {max_steps: 2, save_strategy: "no"}\n'
    )
    run_limbeck("distill", config, "--out", tmp_path / "live")
    teacher = options(f"teacher={{model: {tmp_path / 'live' / 'teacher'}}}")
    run_limbeck("cache", "build", config, "--out", tmp_path / "store", *teacher)
    run_limbeck("distill", config, "--out", tmp_path / "run", *options(f"teacher={{cache: {tmp_path / 'store'}}}"))
    stored, live = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("run", "live"))
    for name, tensor in stored.items():
        torch.testing.assert_close(tensor, live[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_numbers_of_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    rows = {"image": [*map(Image.fromarray, pixels)], "score": (pixels.mean((1, 2)) / 100).tolist()}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(
        f"task: regression\ndata: {{name: {tmp_path}/data, label_column: score}}\n"
        "teacher: {model: cnn, settings: {width: 4}, training: {max_steps: 1}}\nstudent: {model: mlp}\n"
        'training: {max_steps: 1, save_strategy: "no"}\n'
    )
    printed = run_limbeck("distill", tmp_path / "config.yaml", "--out", tmp_path / "run")
    assert "images of 1 x 8 x 8, numbers: score" in printed
    Image.fromarray(pixels[0]).save(tmp_path / "new.png")
    told = json.loads(run_limbeck("predict", tmp_path / "run", tmp_path / "new.png", "--json"))
    assert abs(told["numbers"]["score"] - pixels.mean() / 100) < 1  # in the unit of the column
