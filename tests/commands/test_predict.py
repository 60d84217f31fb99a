"""``limbeck predict``: a run's student, fed as it was trained, with plain softmax."""

import io
import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from limbeck.commands.predict import predict
from support.command_line import limbeck


@pytest.fixture(scope="module")
def digits():
    """Some digits as pixels from 0 to 16."""
    from sklearn.datasets import load_digits

    return load_digits().images[:5]


@pytest.fixture(scope="module")
def images(digits, tmp_path_factory):
    """A folder with the digits as PNG files."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    for i, pixels in enumerate(digits):
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(folder / f"{i}.png")
    return folder


def test_predictions_are_the_plain_softmax_of_the_students_logits(finished_run, digits, images, capsys, monkeypatch):
    run = finished_run.folder
    status, out, _ = limbeck(capsys, "predict", run, images, "--json")
    assert status == 0
    predictions = [json.loads(line) for line in out.splitlines()]
    weights = load_file(run / "student" / "model.safetensors")
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    plain.load_state_dict(weights)
    # plain softmax of the logits: no temperature anywhere
    expected = plain(torch.from_numpy(digits).float() / 16).softmax(-1)
    for prediction, row in zip(predictions, expected, strict=True):
        got = torch.tensor(list(prediction["probabilities"].values()))
        torch.testing.assert_close(got, row.detach(), rtol=0.05, atol=0.01)  # pixels of a PNG are bytes
        assert prediction["label"] == str(int(row.argmax()))
    # the student is fed as it was trained, without the data set
    monkeypatch.setattr("limbeck.data.splits.read_source", lambda *_: pytest.fail("read the data set"))
    status, out, _ = limbeck(capsys, "predict", run, images / "0.png")
    assert re.fullmatch(r"\S+0\.png\t\d\t\d \d\.\d{3}  \d \d\.\d{3}  \d \d\.\d{3}\n", out)


def test_a_folder_is_its_images_in_order_and_nothing_else(finished_run, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    one_by_one = [next(predict(finished_run.folder, [images / f"{i}.png"])) for i in range(5)]
    together = list(predict(finished_run.folder, [tmp_path / "images"]))
    assert [prediction.label for prediction in together] == [prediction.label for prediction in one_by_one]
    assert [prediction.input for prediction in together] == [str(tmp_path / "images" / f"{i}.png") for i in range(5)]
    assert sum(together[0].probabilities.values()) == pytest.approx(1)


def test_predicting_what_is_not_there(finished_run, images, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    status, _, err = limbeck(capsys, "predict", run, tmp_path / "absent.png")
    assert status == 2
    assert "no such file" in err
    there = images / "0.png"
    status, out, err = limbeck(capsys, "predict", run, there, tmp_path / "absent.png", there)
    assert (status, len(out.splitlines())) == (1, 2)
    assert err.splitlines()[0].startswith(f"{tmp_path / 'absent.png'}: no such file")
    (tmp_path / "empty").mkdir()
    status, _, err = limbeck(capsys, "predict", run, tmp_path / "empty")
    assert status == 2
    assert "nothing to predict" in err
    (run / "student" / "inputs.json").write_text("{}")
    status, _, err = limbeck(capsys, "predict", run, tmp_path / "empty")
    assert status == 2
    assert "inputs.json: cannot be read" in err


def test_an_image_that_cannot_be_read_does_not_stop_the_others(finished_run, images, tmp_path, capsys):
    deep = tmp_path / "a" / "b"
    shutil.copytree(images, deep)
    (deep / "2.png").write_bytes((images / "2.png").read_bytes()[:40])
    status, out, err = limbeck(capsys, "predict", finished_run.folder, tmp_path, "--json")
    assert status == 1
    assert "2.png: not an image that can be read" in err
    assert "1 input could not be read" in err
    _, whole, _ = limbeck(capsys, "predict", finished_run.folder, images, "--json")
    assert [json.loads(line)["label"] for line in out.splitlines()] == [
        json.loads(line)["label"] for i, line in enumerate(whole.splitlines()) if i != 2
    ]


def test_a_table_of_images_names_their_files(finished_run, images, capsys):
    table = images / "table.csv"
    table.write_text("id,image\n7,3.png\n8,0.png\n")
    status, out, _ = limbeck(capsys, "predict", finished_run.folder, table, "--json")
    table.unlink()
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["columns"] for row in rows] == [{"id": 7}, {"id": 8}]
    expected = [next(predict(finished_run.folder, [images / name])).label for name in ("3.png", "0.png")]
    assert [row["label"] for row in rows] == expected


def test_names_of_image_files_come_from_the_standard_input(finished_run, images, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{images / '4.png'}\n{images / 'absent.png'}\n"))
    status, out, err = limbeck(capsys, "predict", finished_run.folder, "-")
    assert (status, len(out.splitlines())) == (1, 1)
    assert "absent.png" in err
