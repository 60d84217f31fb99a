"""A teacher with another tokenizer: refused with its list, and taught from where the config names the key."""

import json

import pytest
import torch

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.commands.cache import build_cache
from limbeck.commands.distill import check, distill
from limbeck.commands.evaluate import evaluate
from limbeck.commands.predict import predict
from limbeck.config import config_from
from limbeck.errors import ArgumentError, ConfigError
from limbeck.losses import UniversalLogitLoss
from limbeck.models import Retokenised
from limbeck.tasks import CausalLM
from support.language import WORDS, llama, tokenizer, write_corpus
from support.texts import word_tokenizer

OTHER = word_tokenizer(["[EOS]", "[more]", *WORDS[::-1]], eos_token="[EOS]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uld")
    for name, size, words in (("teacher", 32, OTHER), ("student", 16, tokenizer())):
        llama(size, vocabulary=len(words)).save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    write_corpus(folder / "texts")
    return folder


def config(folder, out="run", **changed):
    base = {
        "out": str(folder / out),
        "data": {"name": str(folder / "texts"), "tokenizer": str(folder / "student"), "max_length": 24},
        "teacher": {"model": str(folder / "teacher")},
        "student": {"model": str(folder / "student")},
        "distillation": {"alignment": "uld", "alpha": 0.5},
        "training": {"max_steps": 3, "learning_rate": 1e-3, "save_strategy": "no"},
    }
    return config_from(
        {name: value if name == "out" else value | changed.get(name, {}) for name, value in base.items()}
    )


def test_without_the_key_the_refusal_names_it(folder):
    with pytest.raises(ConfigError, match=r"not stand for the same token .*alignment: uld") as caught:
        check(config(folder, distillation={"alignment": None}))
    assert "'w" in str(caught.value)  # the list


def test_a_run_from_the_config_to_its_student(folder):
    asked = config(folder)
    assert "uld between sorted probabilities" in check(asked).facts["objective"]
    out = distill(asked)
    written = json.loads((out / "metrics.json").read_text())
    assert set(written["results"]) == {"student"}
    assert any("another tokenizer" in finding for finding in written["findings"])
    logs = [log for log in written["log"] if "soft_loss" in log]
    assert logs
    assert not any("agreement" in log for log in logs)
    assert set(evaluate(out)) == {"student"}
    said = next(iter(predict(out, ["w1 w2"], with_teacher=True, max_new_tokens=2)))
    assert said.label
    assert said.teacher is not None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"teacher": {"cache": "store"}}, "distillation.alignment: uld needs one trained language model"),
        ({"student": {"from_teacher": {"layers": 1, "vocabulary": 20}}}, r"alignment: uld is for a teacher with other tokens"),
        ({"distillation": {"divergence": "jsd"}}, r"alignment: uld has a distance of its own"),
        ({"distillation": {"temperature": {"policy": "linear", "start": 4, "end": 1}}}, r"alignment: 'uld' is for"),
    ],
)  # fmt: skip
def test_what_it_cannot_stand_beside(folder, changed, message):
    with pytest.raises(ConfigError, match=message):
        check(config(folder, **changed))


def test_commands_that_compare_tokens_refuse_it(folder):
    with pytest.raises(ConfigError, match=r"distillation.alignment: uld is for limbeck distill and evaluate"):
        build_cache(config(folder), folder / "store")


def test_the_trainer_pairs_and_sorts(folder, tmp_path):
    """The loss of a batch is that of both models' logits at the same words, sorted by hand."""
    args = DistillationArguments(
        str(tmp_path), alignment="uld", temperature=2.0, alpha=0.5, use_cpu=True, disable_tqdm=True, save_strategy="no",
        logging_strategy="no", per_device_train_batch_size=2,
    )  # fmt: skip
    ours, student, teacher = tokenizer(), llama(vocabulary=29), llama(32, vocabulary=len(OTHER))
    texts = ["w3 w1 w4 w1 w5", "w9 w2 w6 w5 w3"]
    ids = torch.tensor([ours(text)["input_ids"] for text in texts])
    rows = [{"input_ids": row, "labels": row} for row in ids]
    trainer = DistillationTrainer(
        student, teacher, args, train_dataset=rows, processing_class=ours, teacher_tokenizer=OTHER
    )
    assert isinstance(trainer.objective, UniversalLogitLoss)
    with torch.no_grad():
        loss = trainer.compute_loss(student, {"input_ids": ids, "labels": ids})
        theirs = teacher(input_ids=torch.tensor([OTHER(text)["input_ids"] for text in texts])).logits[:, :-1]
        own = student(input_ids=ids).logits[:, :-1]
    sorted_ = [(z.double() / 2).softmax(-1).sort(-1, descending=True).values for z in (own, theirs)]
    width = max(p.shape[-1] for p in sorted_)
    a, b = (torch.nn.functional.pad(p, (0, width - p.shape[-1])) for p in sorted_)
    soft = 2 * (a - b).abs().sum(-1).mean()
    hard = torch.nn.functional.cross_entropy(own.double().flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(float(0.5 * soft + 0.5 * hard), rel=1e-5)
    assert isinstance(trainer.teacher.models[0], Retokenised)
    with pytest.raises(ArgumentError, match="teacher_tokenizer: alignment='uld'"):
        DistillationTrainer(student, teacher, args, train_dataset=rows, processing_class=ours)
    with pytest.raises(ArgumentError, match="alignment: needs one model"):
        DistillationTrainer(student, lambda batch: None, args, train_dataset=rows, processing_class=ours)
    assert CausalLM.name == trainer.task.name
