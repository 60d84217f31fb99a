"""Every command with an encoder and a decoder: pairs of texts, a tiny teacher and a tiny student."""

import copy
import json
import math

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from limbeck.config import load_config
from limbeck.data import TokenPairs, load_splits
from limbeck.models import load_model
from support.command_line import limbeck, run_limbeck
from support.language import encoder_decoder, ended_tokenizer, write_encoder_decoders, write_pairs
from support.runs import options

CONFIG = """\
data: {name: FOLDER/pairs.jsonl, tokenizer: FOLDER/teacher, max_length: 16}
teacher: {model: FOLDER/teacher}
student: {model: FOLDER/student, from_scratch: true}
distillation: {alpha: 0.7}
training: {max_steps: 3, per_device_train_batch_size: 8, learning_rate: 0.5, optim: sgd, lr_scheduler_type: constant,
           max_grad_norm: 0.0, save_strategy: "no"}
compare: {seeds: 1, temperatures: [1]}
search: {temperatures: [1, 2, 4], seeds: 1}
"""


def write(folder, kind):
    write_encoder_decoders(folder, kind)
    write_pairs(folder / "pairs.jsonl")
    (folder / "config.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    return folder / "config.yaml"


@pytest.fixture(scope="module", params=["t5", "bart", pytest.param("marian", marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = write(folder, request.param)
    seen, load = [], TokenPairs.__call__

    def record(self, rows):
        batch = load(self, rows)
        seen.append((len(self.lengths), copy.deepcopy(batch)))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenPairs, "__call__", record)
        printed = run_limbeck("distill", config, "--out", folder / "run")
    return config, folder / "run", printed, [batch for total, batch in seen if total == 32 and len(batch["mask"]) == 8]


def inputs(batch):
    """Return what both models read: the decoder reads 0 and then the labels."""
    shifted = torch.cat([torch.zeros_like(batch["labels"][:, :1]), batch["labels"][:, :-1].clamp(min=0)], 1)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "decoder_input_ids": shifted}


def test_three_steps_are_those_of_a_loop_by_hand(run):
    _, folder, printed, seen = run
    assert "targets of a source each" in printed
    assert "T = 1, alpha = 0.7" in printed
    assert "task: encoder_decoder" in (folder / "config.yaml").read_text()
    teacher = load_model(folder.parent / "teacher")
    torch.manual_seed(0)
    student = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder.parent / "student"))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for batch in seen[:3]:  # the loader is one batch ahead
        known = batch["labels"] != -100
        ours = student(**inputs(batch)).logits[known]
        theirs = teacher(**inputs(batch)).logits[known][:, :29].detach()
        soft = kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True)
        (0.7 * soft + 0.3 * cross_entropy(ours, batch["labels"][known])).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = load_model(folder / "student").state_dict()
    for name, value in student.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=1e-4)


def test_evaluation_is_that_of_plain_formulas(run, capsys):
    _, folder, _, _ = run
    told = json.loads((folder / "metrics.json").read_text())["results"]
    status, out, err = limbeck(capsys, "evaluate", folder)
    assert status == 0, err
    assert f"{told['student']['perplexity']:.3f}" in out
    config = load_config(folder / "config.yaml", training=False)
    test = load_splits(config.data, task=config.task).test
    batch = test.as_one_batch()
    known, labels = batch["mask"], batch["labels"][batch["mask"]]
    with torch.no_grad():
        ours, theirs = (
            load_model(path)(**inputs(batch)).logits[known].double()
            for path in (folder / "student", folder.parent / "teacher")
        )
    nll = cross_entropy(ours, labels)
    wanted = {
        "perplexity": nll.exp(),
        "bits_per_byte": nll / math.log(2) / test.load.bytes_per_token,
        "accuracy": (ours.argmax(-1) == labels).double().mean(),
        "teacher_kl": kl_div(ours.log_softmax(-1), theirs[:, :29].log_softmax(-1), reduction="batchmean", log_target=True),
        "agreement": (ours.argmax(-1) == theirs.argmax(-1)).double().mean(),
    }  # fmt: skip
    for name, value in wanted.items():
        assert told["student"][name] == pytest.approx(value.item(), rel=1e-4), name


def test_predict_writes_with_the_decoder(run, capsys):
    _, folder, _, _ = run
    texts = ["w1 w2 w3 w4", "w3"]
    status, out, err = limbeck(capsys, "predict", folder, *texts, "--max-new-tokens", "4", "--with-teacher", "--json")
    assert status == 0, err
    told, made = [json.loads(line) for line in out.splitlines()], ended_tokenizer()
    for key, path in (("label", folder / "student"), ("teacher", folder.parent / "teacher")):
        for row in told:  # one by one, without padding
            ids = torch.tensor([made(row["input"])["input_ids"]])
            written = load_model(path).generate(ids, max_new_tokens=4, do_sample=False)[0]
            assert row.get(key, "") == made.decode(written, skip_special_tokens=True)


@pytest.mark.parametrize("run", ["t5"], indirect=True)
def test_export_writes_the_files_that_transformers_opens(run, tmp_path, capsys):
    _, folder, _, _ = run
    status, out, err = limbeck(capsys, "export", folder, "--format", "safetensors", "--out", tmp_path / "out")
    assert status == 0, err
    assert "nothing: the logits are the student's own" in out
    saved, ids = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out"), torch.tensor([[3, 1, 28]])
    written, wanted = (model.generate(ids, max_new_tokens=4) for model in (saved, load_model(folder / "student")))
    assert torch.equal(written, wanted)
    assert "`decoder_input_ids` (N, L)" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("run", ["t5"], indirect=True)
def test_an_exported_decoder_writes_what_the_student_writes(run, tmp_path, capsys):
    from onnxruntime import InferenceSession

    _, folder, _, _ = run
    status, _, err = limbeck(capsys, "export", folder, "--out", tmp_path / "out")
    assert status == 0, err
    session, ids = InferenceSession(tmp_path / "out" / "model.onnx"), torch.tensor([[3, 1, 7, 2, 28]])
    wanted = load_model(folder / "student").generate(ids, max_new_tokens=4, num_beams=1, do_sample=False)[0].tolist()
    written, given = wanted[:1], {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(ids).numpy()}
    for _ in wanted[1:]:
        (logits,) = session.run(["logits"], {**given, "decoder_input_ids": torch.tensor([written]).numpy()})
        written.append(int(logits[0, -1].argmax()))
    assert written == wanted


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pairs"), "t5")


@pytest.mark.parametrize("run", ["t5"], indirect=True)
def test_a_store_of_hidden_states_teaches_as_the_teacher_does(run, tmp_path, capsys):
    config, folder, _, _ = run
    hidden = options("cache={format: hidden}")
    status, out, err = limbeck(capsys, "cache", "build", config, "--out", tmp_path / "store", *hidden)
    assert status == 0, err
    assert "bytes / token" in out
    stored = options(f"teacher={{cache: {tmp_path / 'store'}}}")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *stored)
    assert status == 0, err
    ours, theirs = (load_model(path / "student").state_dict() for path in (tmp_path / "run", folder))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-2)  # half precision
    begins = encoder_decoder(folder.parent.name.rstrip("0"), decoder_start_token_id=5)
    begins.save_pretrained(tmp_path / "other")
    other = options(f"student.model={tmp_path / 'other'}")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "b", *stored, *other)
    assert status == 2
    assert "other data" in err


@pytest.mark.slow
def test_compare_analyze_and_search(config, tmp_path, capsys):
    few = options("training.max_steps=1")
    layers = options("student={from_teacher: {layers: 1, choose: measured}}")
    status, _, err = limbeck(capsys, "compare", config, "--out", tmp_path / "compared", *layers, *few)
    assert status == 0, err
    saved = load_model(tmp_path / "compared" / "student").config
    assert (saved.num_layers, saved.num_decoder_layers) == (1, 1)
    given = ("--student", tmp_path / "compared", "--out", tmp_path / "analysis")
    status, _, err = limbeck(capsys, "temperature", "analyze", config, *given)
    assert status == 0, err
    status, _, err = limbeck(capsys, "temperature", "search", config, "--out", tmp_path / "search", *few)
    assert status == 0, err


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (("distill",), "student={from_teacher: {layers: [1]}}", "its first layer has weights that the others use"),
        (("distill",), "teacher.model=OTHER", "its decoder begins with the tokens [5], and the student's with [0]"),
        (("distill",), "data.text_column=source", "data.text_column: Name the two columns"),
        (("distill",), "data.text_column=[source, t]", "data.text_column: train has no column 't'"),
        (("distill",), "data.packing=true", "data.packing: has no effect on texts for encoder_decoder"),
    ],
)  # fmt: skip
def test_what_is_refused(config, tmp_path, capsys, command, given, message):
    encoder_decoder("t5", decoder_start_token_id=5).save_pretrained(tmp_path / "other")
    overrides = options(given.replace("OTHER", str(tmp_path / "other")))
    status, _, err = limbeck(capsys, *command, config, "--out", tmp_path / "run", *overrides)
    assert status == 2
    assert message in err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()
