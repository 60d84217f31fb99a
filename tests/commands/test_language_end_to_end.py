"""Every command with a causal language model: a folder of texts, a tiny teacher and a tiny student."""

import json
import math
import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from limbeck.config import load_config
from limbeck.data import load_splits
from limbeck.data.texts import load_tokenizer
from limbeck.models import load_model
from support.command_line import limbeck, run_limbeck
from support.language import tokenizer, write_corpus, write_models
from support.runs import options

CONFIG = """\
data: {name: FOLDER/texts, tokenizer: FOLDER/teacher, max_length: 32}
teacher: {model: FOLDER/teacher}
student: {model: FOLDER/student, from_scratch: true}
training: {max_steps: 6, per_device_train_batch_size: 4, learning_rate: 1e-2, save_strategy: "no", logging_steps: 3}
compare: {seeds: 1, temperatures: [1]}
search: {temperatures: [1, 2, 4], seeds: 1}
cache: {format: hidden}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    write_models(folder)
    write_corpus(folder / "texts")
    (folder / "config.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    return (
        folder / "config.yaml",
        folder / "run",
        run_limbeck("distill", folder / "config.yaml", "--out", folder / "run"),
    )


def test_distill_tells_what_it_does(run):
    config, folder, printed = run
    assert "21 sequences with 607 tokens for training, 2 sequences with" in printed
    assert "blocks of 32" in printed
    assert "T = 1, alpha = 0.9" in printed
    assert "21 sequences for training" in printed
    assert "task: causal_lm" in (folder / "config.yaml").read_text()
    assert load_config(config, ["distillation.temperature=2"]).distillation.temperature == 2


def test_evaluation_is_that_of_plain_formulas(run, capsys, monkeypatch):
    _, folder, _ = run
    told = json.loads((folder / "metrics.json").read_text())["results"]
    monkeypatch.setattr("limbeck.evaluation.inference.MOST_LOGITS", 1)  # one sequence at a time
    status, out, err = limbeck(capsys, "evaluate", folder)
    assert status == 0, err
    assert all(f"{told['student'][name]:.3f}" in out for name in ("perplexity", "teacher_kl", "bits_per_byte"))
    config = load_config(folder / "config.yaml", training=False)
    test = load_splits(config.data, task=config.task).test
    batch = test.as_one_batch()
    inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
    keep, labels = batch["mask"][:, 1:], batch["input_ids"][:, 1:]
    student, teacher = (load_model(path) for path in (folder / "student", folder.parent / "teacher"))
    with torch.no_grad():
        ours, theirs = (model(**inputs).logits[:, :-1][keep].double() for model in (student, teacher))
    nll = cross_entropy(ours, labels[keep])
    pairs = zip(ours, theirs, strict=True)
    wanted = {
        "perplexity": nll.exp(),
        "bits_per_byte": nll / math.log(2) / test.load.bytes_per_token,
        "accuracy": (ours.argmax(-1) == labels[keep]).double().mean(),
        "teacher_kl": kl_div(ours.log_softmax(-1), theirs[:, :29].log_softmax(-1), reduction="batchmean", log_target=True),
        "agreement": (ours.argmax(-1) == theirs.argmax(-1)).double().mean(),
        "top5_overlap": torch.tensor(
            [len(set(a.topk(5).indices.tolist()) & set(b[:29].topk(5).indices.tolist())) / 5 for a, b in pairs]
        ).mean(),
    }  # fmt: skip
    for name, value in wanted.items():
        assert told["student"][name] == pytest.approx(value.item(), rel=1e-4), name
    assert 0 <= told["student"]["calibration_error"] <= 1
    assert told["teacher"]["perplexity"] == pytest.approx(cross_entropy(theirs, labels[keep]).exp().item(), rel=1e-4)


def test_predict_goes_on_with_texts(run, capsys):
    _, folder, _ = run
    status, out, err = limbeck(
        capsys, "predict", folder, "w1 w2", "w3", "--max-new-tokens", "4", "--with-teacher", "--json"
    )
    assert status == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    for key, path in (("label", folder / "student"), ("teacher", folder.parent / "teacher")):
        for row in told:  # one by one, without padding
            ids = torch.tensor([tokenizer()(row["input"])["input_ids"]])
            written = load_model(path).generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
            assert row.get(key, "") == tokenizer().decode(written, skip_special_tokens=True)


def test_a_store_of_hidden_states_teaches_as_the_teacher_does(run, tmp_path, capsys):
    config, folder, _ = run
    status, out, err = limbeck(capsys, "cache", "build", config, "--out", tmp_path / "store")
    assert status == 0, err
    assert "bytes / token" in out
    stored = options(f"teacher={{cache: {tmp_path / 'store'}}}")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *stored)
    assert status == 0, err
    ours, theirs = (load_model(path / "student").state_dict() for path in (tmp_path / "run", folder))
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=1e-3, atol=1e-3
        )  # the store keeps hidden states in half precision


def test_compare_analyze_and_search(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    config, _, _ = run
    layers = options("student={from_teacher: {layers: 1, choose: measured}}")
    status, out, err = limbeck(capsys, "compare", config, "--out", tmp_path / "compared", *layers)
    assert status == 0, err
    assert "in log-likelihood / token" in out
    assert load_model(tmp_path / "compared" / "student").config.num_hidden_layers == 1
    status, out, err = limbeck(capsys, "temperature", "analyze", config, "--out", tmp_path / "analysis")
    assert status == 0, err
    few = options("training.max_steps=1")
    status, out, err = limbeck(capsys, "temperature", "search", config, "--out", tmp_path / "search", *few)
    assert status == 0, err
    assert "in validation log likelihood" in out


def test_chats(run, tmp_path, capsys):
    config, _, _ = run
    turns = [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3 w4 w5"}]
    (tmp_path / "a.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 20)
    given = options(f"data.name={tmp_path / 'a.jsonl'}", "training.max_steps=2")
    status, out, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *given)
    assert status == 0, err
    assert "one document each" in out
    status, out, err = limbeck(capsys, "predict", tmp_path / "run", "w1", tmp_path / "a.jsonl", "--max-new-tokens", "2")
    assert status == 0, err
    assert len(out.splitlines()) == 21


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "data.max_length=100",
            "data.max_length: the longest sequence has 100 tokens, and teacher.model was made for 64",
        ),
        ("data.tokenizer=OTHER", "do not stand for the same token"),
        ("teacher.model=module:function", "teacher.model: "),
        ("student={model: OTHER}", "do not stand for the same token"),
        ("teacher={model: OTHER}", "teacher.model: 2 ids do not stand for the same token"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(run, tmp_path, capsys, given, message):
    config, _, _ = run
    other = tmp_path / "other"
    shutil.copytree(config.parent / "student", other)
    words = json.loads((other / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["w0"], vocabulary["w1"] = vocabulary["w1"], vocabulary["w0"]
    (other / "tokenizer.json").write_text(json.dumps(words))
    overrides = options(given.replace("OTHER", str(other)))
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *overrides)
    assert status == 2
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_student_with_a_part_of_the_vocabulary(run, tmp_path, capsys):
    config, folder, _ = run
    cut = options("student={from_teacher: {layers: 1, vocabulary: 20}}", "training.max_steps=3")
    status, out, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *cut)
    assert status == 0, err
    assert "the student knows 20 tokens, " in out
    assert "The student knows 20 of 29 tokens. Of training, " in (tmp_path / "run" / "report.html").read_text()
    student, teacher = load_model(tmp_path / "run" / "student"), load_model(folder.parent / "teacher")
    own = load_tokenizer(str(tmp_path / "run" / "student"))
    test = load_splits(load_config(config).data, task="causal_lm").test
    batch = test.as_one_batch()
    names = tokenizer().convert_ids_to_tokens(range(29))
    place = torch.tensor([own.get_vocab().get(name, -1) for name in names])
    kept = torch.tensor([names.index(name) for name in own.convert_ids_to_tokens(range(20))])
    new, positions = place[batch["input_ids"]], {"position_ids": batch["position_ids"], "use_cache": False}
    keep = (batch["mask"] & (new >= 0))[:, 1:]
    with torch.no_grad():
        ours = student(torch.where(new < 0, own.unk_token_id, new), **positions).logits[:, :-1][keep].double()
        theirs = teacher(batch["input_ids"], **positions).logits[:, :-1][keep].double()[:, kept]
    labels = new[:, 1:][keep]
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["results"]
    for name, logits in (("student", ours), ("teacher", theirs)):
        assert told[name]["perplexity"] == pytest.approx(cross_entropy(logits, labels).exp().item(), rel=1e-4)
        assert told[name]["outside"] == pytest.approx(1 - keep.sum().item() / batch["mask"][:, 1:].sum().item())
        assert "bits_per_byte" not in told[name]
    divergence = kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True)
    assert told["student"]["teacher_kl"] == pytest.approx(divergence.item(), rel=1e-4)
    status, out, err = limbeck(capsys, "evaluate", tmp_path / "run")
    assert status == 0, err
    assert "outside the vocabulary, %" in out
    told = {}
    for path in (folder, tmp_path / "run"):
        asked = ("predict", path, "w1 w2", "--max-new-tokens", "4", "--with-teacher", "--json")
        status, out, err = limbeck(capsys, *asked)
        assert status == 0, err
        told[path] = json.loads(out)["teacher"]
    assert told[folder] == told[tmp_path / "run"]  # the teacher reads with its own tokenizer
    limbeck(capsys, "cache", "build", config, "--out", tmp_path / "store", *cut)
    stored = options(f"teacher={{cache: {tmp_path / 'store'}}}", f"student.model={folder.parent / 'teacher'}")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "stored", *cut, *stored)
    assert status == 0, err
    again = load_model(tmp_path / "stored" / "student").state_dict()
    for name, value in student.state_dict().items():
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-3)
    other = options("student.from_teacher.vocabulary=22")
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "other", *cut, *stored, *other)
    assert status == 2
    assert len(err.strip().splitlines()) == 1, err
    assert "teacher.cache" in err
