"""A student that is written, opened again and compared before it counts."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from limbeck.errors import ArgumentError, ModelError
from limbeck.export import exporting
from limbeck.export.comparing import Comparison
from limbeck.export.exporting import ExportError, export
from limbeck.models import load_onnx
from support.untrained import write_run

PIXELS = torch.from_numpy(load_digits().images[:5]).float()[:, None] / 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, write_run(folder, settings={"hidden": [300]})


def logits(student):
    with torch.no_grad():
        return student(PIXELS).numpy()


def test_onnx_gives_the_students_logits_for_any_number_of_examples(run):
    folder, student = run
    exported = export(folder, "onnx")
    assert exported.folder == folder / "export" / "onnx"
    session = onnxruntime.InferenceSession(exported.folder / "model.onnx")
    for rows in (1, 5):
        (found,) = session.run(["logits"], {"pixel_values": PIXELS[:rows].numpy()})
        np.testing.assert_allclose(found, logits(student)[:rows], rtol=1e-4, atol=1e-5)
    # the file says what it is, and is a teacher that knows its classes
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["inputs"]) == json.loads((folder / "student" / "inputs.json").read_text())
    assert load_onnx(exported.folder / "model.onnx").class_names == tuple("0123456789")
    assert str(folder) not in (exported.folder / "model.onnx").read_bytes().decode("latin-1")
    assert not any(node.metadata_props for node in onnx.load(exported.folder / "model.onnx").graph.node)
    told = json.loads((exported.folder / "export.json").read_text())
    assert told["examples"] == 128
    assert told["agreement"] == 1
    assert told["largest_difference"] < 1e-5 < told["largest_logit"]
    # weights of 8 bits are smaller, and decide alike
    small = export(folder, "onnx", int8=True)
    assert small.size < 0.5 * exported.size
    assert {path.name for path in small.folder.iterdir()} == {path.name for path in exported.folder.iterdir()}
    assert small.comparison.largest_difference > 0
    assert small.comparison.agreement > 0.9


def test_a_program_runs_with_torch_alone(run):
    folder, student = run
    exported = export(folder, "torch-export")
    extra = {"inputs": "", "class_names": ""}
    program = torch.export.load(exported.folder / "model.pt2", extra_files=extra).module()
    np.testing.assert_allclose(program(pixel_values=PIXELS).detach(), logits(student), rtol=1e-5, atol=1e-6)
    assert json.loads(extra["class_names"]) == list("0123456789")
    with pytest.raises(ArgumentError, match="int8: is for onnx; torch-export has no weights of 8 bits"):
        export(folder, "torch-export", int8=True)


def test_safetensors_are_the_students_files(run, tmp_path):
    folder, student = run
    exported = export(folder, "safetensors", out=tmp_path / "out", licence="apache-2.0")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in student.state_dict().items())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "config.json", "inputs.json", "export.json", "README.md"}
    assert exported.comparison.largest_difference == 0


def test_the_model_card_has_the_metadata_of_the_hub(run, tmp_path):
    from huggingface_hub import ModelCard

    folder, _ = run
    results = {"teacher": {"accuracy": 0.97}, "student": {"accuracy": 0.95, "nll": 0.2}}
    (folder / "metrics.json").write_text(json.dumps({"results": results, "findings": ["One seed."]}))
    export(folder, "safetensors", out=tmp_path / "out", licence="apache-2.0")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.tags == ["limbeck", "knowledge-distillation", "classification"]
    assert card.data.metrics == ["accuracy", "nll"]
    for text in ("22,510 parameters", "T = 1", "digits", "95.0", "One seed.", "inputs.json"):
        assert text in card.text


@pytest.mark.parametrize("format_name", ["onnx", "torch-export", "safetensors"])
def test_a_temperature_in_the_forward_is_refused(tmp_path, format_name):
    name = "support.untrained:softened"
    write_run(tmp_path, name)
    with pytest.raises(ExportError, match=r"not written: a division by 4 after the head is in the student's forward"):
        export(tmp_path, format_name, functions=[name])
    assert not (tmp_path / "export" / format_name).exists()
    with pytest.raises(ModelError, match="a folder does not decide which code runs"):
        export(tmp_path, format_name)


def test_what_differs_from_the_student_is_not_kept(run, tmp_path, monkeypatch):
    folder, _ = run
    chosen = exporting.FORMATS["safetensors"]
    wrong = exporting.Format(chosen.write, lambda *given: lambda batch: chosen.open(*given)(batch) + 0.5, chosen.graph)
    monkeypatch.setitem(exporting.FORMATS, "safetensors", wrong)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"its logits differ from the student's by up to 0\.5 on 128 test examples"):
        export(folder, "safetensors", out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_what_counts_as_the_same():
    same = {"examples": 9, "largest_logit": 20.0, "milliseconds": 1.0, "student_milliseconds": 1.0}
    assert Comparison(largest_difference=1e-3, agreement=1.0, **same).fault(int8=False) is None
    assert "rounding alone" in Comparison(largest_difference=3e-3, agreement=1.0, **same).fault(int8=False)
    assert Comparison(largest_difference=1.0, agreement=0.95, **same).fault(int8=True) is None
    assert "to 0.850 on 9" in Comparison(largest_difference=1.0, agreement=0.85, **same).fault(int8=True)
    for int8 in (False, True):
        assert "not finite" in Comparison(largest_difference=float("inf"), agreement=1.0, **same).fault(int8=int8)


def test_an_unknown_format(run):
    with pytest.raises(ArgumentError, match=r"format: .*onnx, torch-export, safetensors"):
        export(run[0], "onxx")
