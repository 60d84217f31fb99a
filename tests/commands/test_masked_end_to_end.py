"""Every command with a masked language model: a folder of texts, a tiny teacher and a tiny student."""

import copy
import json
import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoConfig, AutoModelForMaskedLM

from limbeck.config import load_config
from limbeck.data import MaskedTokens, load_splits
from limbeck.models import load_model
from limbeck.run.training import build_seeded_model, train
from support.command_line import limbeck, run_limbeck
from support.language import masked_tokenizer, write_corpus, write_masked_models
from support.runs import options

CONFIG = """\
data: {name: FOLDER/texts, tokenizer: FOLDER/teacher, max_length: 32}
teacher: {model: FOLDER/teacher}
student: {model: FOLDER/student, from_scratch: true}
distillation: {alpha: 0.7}
training: {max_steps: 3, per_device_train_batch_size: 8, learning_rate: 0.5, optim: sgd, lr_scheduler_type: constant,
           max_grad_norm: 0.0, save_strategy: "no"}
compare: {seeds: 1, temperatures: [1]}
search: {temperatures: [1, 2, 4], seeds: 1}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    write_masked_models(folder)
    write_corpus(folder / "texts", documents=60)
    (folder / "config.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    seen, load = [], MaskedTokens.__call__

    def record(self, rows):
        batch = load(self, rows)
        seen.extend([] if self._is_fixed else [copy.deepcopy(batch)])
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedTokens, "__call__", record)
        printed = run_limbeck("distill", folder / "config.yaml", "--out", folder / "run")
    return folder / "config.yaml", folder / "run", printed, seen


def inputs(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def test_three_steps_are_those_of_a_loop_by_hand(run):
    _, folder, printed, seen = run
    assert "15 % of them are masked" in printed
    assert "T = 1, alpha = 0.7" in printed
    assert "task: masked_lm" in (folder / "config.yaml").read_text()
    teacher = load_model(folder.parent / "teacher")
    torch.manual_seed(0)
    student = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder.parent / "student"))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for batch in seen[:3]:  # the loader is one batch ahead
        masked = batch["labels"] != -100
        ours = student(**inputs(batch)).logits[masked]
        theirs = teacher(**inputs(batch)).logits[masked][:, :29].detach()
        soft = kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True)
        (0.7 * soft + 0.3 * cross_entropy(ours, batch["labels"][masked])).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = load_model(folder / "student").state_dict()
    for name, value in student.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)


def test_evaluation_is_that_of_plain_formulas(run, capsys):
    _, folder, _, _ = run
    told = json.loads((folder / "metrics.json").read_text())["results"]
    status, out, err = limbeck(capsys, "evaluate", folder)
    assert status == 0, err
    assert "perplexity of masked tokens" in out
    assert f"{told['student']['masked_perplexity']:.3f}" in out  # the masks are the same
    config = load_config(folder / "config.yaml", training=False)
    batch = load_splits(config.data, task=config.task).test.as_one_batch()
    masked, labels = batch["mask"], batch["labels"][batch["mask"]]
    with torch.no_grad():
        ours, theirs = (
            load_model(path)(**inputs(batch)).logits[masked].double()
            for path in (folder / "student", folder.parent / "teacher")
        )
    nll = cross_entropy(ours, labels)
    wanted = {
        "masked_perplexity": nll.exp(),
        "log_likelihood": -nll,
        "accuracy": (ours.argmax(-1) == labels).double().mean(),
        "teacher_kl": kl_div(ours.log_softmax(-1), theirs[:, :29].log_softmax(-1), reduction="batchmean", log_target=True),
        "agreement": (ours.argmax(-1) == theirs.argmax(-1)).double().mean(),
    }  # fmt: skip
    for name, value in wanted.items():
        assert told["student"][name] == pytest.approx(value.item(), rel=1e-4), name
    assert "bits_per_byte" not in told["student"]


def test_predict_fills_in_masks(run, capsys):
    _, folder, _, _ = run
    text = "w1 [MASK] w2 [MASK]"
    status, out, err = limbeck(capsys, "predict", folder, text, "--with-teacher", "--json")
    assert status == 0, err
    told, made = json.loads(out), masked_tokenizer()
    ids = torch.tensor([made(text)["input_ids"]])
    for key, path in (("label", folder / "student"), ("teacher", folder.parent / "teacher")):
        with torch.no_grad():
            shares = load_model(path)(ids).logits[0, [2, 4]].softmax(-1)
        assert told[key] == made.decode(shares.argmax(-1))
        if key == "label":
            for row, masked in zip(shares, told["masked"], strict=True):
                assert masked == pytest.approx({made.decode([i]): row[i].item() for i in row.topk(5).indices.tolist()})
    status, _, err = limbeck(capsys, "predict", folder, "w1 w2")
    assert status == 1
    assert "w1 w2: no [MASK] in the first 32 tokens" in err
    assert limbeck(capsys, "predict", folder, text, "--max-new-tokens", "3")[0] == 2


def test_a_resumed_run_has_the_masks_of_the_whole_one(run, tmp_path):
    kept = ("save_strategy=steps", "save_steps=2", "max_steps=5", "save_total_limit=3")
    config = load_config(run[0], ["task=masked_lm", *(f"training.{setting}" for setting in kept)])
    splits = load_splits(config.data, task=config.task)
    trained = []
    for resume in (False, True):  # an epoch has six steps
        student = build_seeded_model(config.student, splits, 0)
        train(student, None, splits.train, config, folder=tmp_path, resume=resume)
        trained.append({name: value.clone() for name, value in student.state_dict().items()})
        for path in (tmp_path / "checkpoint-5", tmp_path / "checkpoint-4"):
            shutil.rmtree(path)
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


@pytest.mark.slow
def test_export_writes_a_model_that_fills_in_masks(run, tmp_path, capsys):
    from onnxruntime import InferenceSession

    _, folder, _, _ = run
    status, _, err = limbeck(capsys, "export", folder, "--out", tmp_path / "out")
    assert status == 0, err
    ids = torch.tensor([masked_tokenizer()("w1 [MASK] w2 [MASK]")["input_ids"]])
    given = {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(ids).numpy()}
    (logits,) = InferenceSession(tmp_path / "out" / "model.onnx").run(["logits"], given)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor(logits), load_model(folder / "student")(ids).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_compare_analyze_and_search(run, tmp_path, capsys):
    config, folder, _, _ = run
    few = options("training.max_steps=1")
    layers = options("student={from_teacher: {layers: 1, choose: measured}}")
    status, out, err = limbeck(capsys, "compare", config, "--out", tmp_path / "compared", *layers, *few)
    assert status == 0, err
    assert "in log-likelihood / token" in out
    assert load_model(tmp_path / "compared" / "student").config.num_hidden_layers == 1
    given = ("--student", folder, "--out", tmp_path / "analysis")
    status, out, err = limbeck(capsys, "temperature", "analyze", config, *given)
    assert status == 0, err
    status, out, err = limbeck(capsys, "temperature", "search", config, "--out", tmp_path / "search", *few)
    assert status == 0, err


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (("cache", "build"), "seed=1", "task: limbeck cache build keeps one answer for each token of a text, and masked_lm"),
        (("distill",), "teacher={cache: store}", "teacher.cache: a store keeps one answer for each token of a text"),
        (("distill",), "data.loss_on=all", "data.loss_on: has no effect on texts for masked_lm"),
        (("distill",), "data.max_length=100", "data.max_length: a text has 100 tokens, and student.model has 64 positions"),
    ],
)  # fmt: skip
def test_what_is_refused(run, tmp_path, capsys, command, given, message):
    config, _, _, _ = run
    overrides = options(given, "task=masked_lm")
    status, _, err = limbeck(capsys, *command, config, "--out", tmp_path / "run", *overrides)
    assert status == 2
    assert message in err
    assert not (tmp_path / "run").exists()
