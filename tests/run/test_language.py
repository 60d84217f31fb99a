"""Whether a language model can read the documents of the data."""

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from limbeck.commands.cache import build_cache
from limbeck.config import config_from
from limbeck.data import DataConfig, identity_collate, load_splits
from limbeck.errors import ConfigError
from limbeck.evaluation import rows_of
from limbeck.models.hidden_term import HiddenTerm
from limbeck.models.shrink import keep_layers
from limbeck.run.inputs import load_run_splits
from limbeck.run.language import check_language_model
from limbeck.run.opening import inspect_run
from limbeck.run.teacher import load_teacher
from limbeck.run.training import build_seeded_model, train, training_arguments
from limbeck.store import CacheConfig
from limbeck.training import DistillationTrainer
from support.language import llama, tokenizer, write_corpus, write_models


class ReadsNoPositions(torch.nn.Module):
    """A language model of the user's own, whose attention is over the whole block."""

    def __init__(self):
        super().__init__()
        self.inside = llama()

    def forward(self, input_ids):
        return self.inside(input_ids).logits


def gpt2(n_positions=64):
    return GPT2LMHeadModel(GPT2Config(vocab_size=29, n_embd=16, n_layer=2, n_head=2, n_positions=n_positions))


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tokenizer().save_pretrained(folder / "tokenizer")
    config = DataConfig(str(write_corpus(folder / "texts")), tokenizer=str(folder / "tokenizer"), max_length=32)
    return {
        packing: load_splits(dataclasses.replace(config, packing=packing), task="causal_lm")
        for packing in (True, False)
    }


def test_models_that_keep_documents_apart(splits):
    model = gpt2().train()
    check_language_model(model, splits[True], "student.model")
    assert model.training
    check_language_model(llama(), splits[True], "student.model")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ReadsNoPositions(), r"data.packing: student.model \(ReadsNoPositions\) lets a document of a block see"),
        (llama(vocabulary=20), "data.tokenizer: the data have ids up to 28, and student.model knows 20 tokens"),
        (gpt2(n_positions=16), "data.max_length: the longest sequence has 32 tokens, and student.model was made for 16"),
    ],
)  # fmt: skip
def test_models_that_cannot_read_the_documents(splits, model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_language_model(model, splits[True], "student.model")
    assert len(caught.value.faults) == 1


def test_documents_one_by_one_need_no_positions(splits):
    check_language_model(ReadsNoPositions(), splits[False], "student.model")


@pytest.fixture(scope="module")
def of_some_tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    write_models(folder)
    write_corpus(folder / "texts")
    return config_from(
        {
            "task": "causal_lm",
            "data": {"name": str(folder / "texts"), "tokenizer": str(folder / "teacher"), "max_length": 32},
            "teacher": {"model": str(folder / "teacher")},
            "student": {"from_teacher": {"layers": 1, "vocabulary": 20}},
            "distillation": {"alpha": 0.7, "temperature": 2},
        }
    )


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_is_that_of_columns_cut_by_hand(of_some_tokens, packing, tmp_path):
    config = of_some_tokens.model_copy(update={"data": dataclasses.replace(of_some_tokens.data, packing=packing)})
    splits, whole = load_run_splits(config), load_splits(config.data, task="causal_lm")
    kept = splits.train.load.kept.kept
    student, teacher = build_seeded_model(config.student, splits, 0), load_teacher(config, splits, tmp_path)
    trainer = DistillationTrainer(
        student.double(), teacher.double(), training_arguments(config, tmp_path), identity_collate, splits.train,
        task="causal_lm",
    )  # fmt: skip
    batch, real = (part.train.__getitems__([0, 1, 2]) for part in (splits, whole))
    loss = trainer.compute_loss(student, dict(batch))
    assert trainer.teacher.head is not None  # both are projected a few positions at a time
    loss.backward()
    model = AutoModelForCausalLM.from_pretrained(config.teacher.model, dtype=torch.float64)
    place = torch.full((32,), -1).scatter(0, kept, torch.arange(20))
    inputs = {name: real[name] for name in ("position_ids", "attention_mask") if name in real} | {"use_cache": False}
    theirs = model(real["input_ids"], **inputs).logits[:, :-1][..., kept].detach()
    model = keep_layers(model, [0])
    read = torch.where(place[real["input_ids"]] < 0, splits.train.tokenizer.unk_token_id, real["input_ids"])
    ours = model(read, **inputs).logits[:, :-1][..., kept]  # its own weights are not cut
    labels = place[real["labels"].clamp(min=0)][:, 1:]
    counts = real["mask"][:, 1:] & (labels >= 0)
    assert 0 < int(counts.sum()) < int(real["mask"][:, 1:].sum())
    ours, theirs, labels = ours[counts], theirs[counts], labels[counts]
    soft = kl_div((ours / 2).log_softmax(-1), (theirs / 2).softmax(-1), reduction="batchmean")
    expected = 0.7 * 4 * soft + 0.3 * cross_entropy(ours, labels)
    torch.testing.assert_close(loss, expected)
    expected.backward()
    for get in ("get_input_embeddings", "get_output_embeddings"):
        cut, full = (getattr(net, get)().weight.grad for net in (student, model))
        torch.testing.assert_close(cut, full[kept])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"teacher": {"training": {"max_steps": 1}}}, "vocabulary: needs a teacher that is trained already"),
        ({"student": {"from_teacher": {"layers": 1, "vocabulary": 2}}}, "vocabulary: expected at least 3, the special"),
        ({"data": {"tokenizer": None, "name": "TOKENS"}}, "vocabulary: needs the tokenizer of the data"),
    ],
)  # fmt: skip
def test_vocabularies_that_cannot_be_cut(of_some_tokens, changed, message, tmp_path):
    given = of_some_tokens.model_dump(exclude_unset=True)
    given["student"] = {"from_teacher": {"layers": 1, "vocabulary": 20}}
    given["teacher"], given["data"] = {"model": of_some_tokens.teacher.model}, dataclasses.asdict(of_some_tokens.data)
    (tmp_path / "tokens.jsonl").write_text('{"input_ids": [1, 2, 3, 4, 5, 6, 7, 8]}\n' * 20)
    for section, values in changed.items():
        given[section] |= {key: str(tmp_path / "tokens.jsonl") if v == "TOKENS" else v for key, v in values.items()}
    config = config_from({name: given[name] for name in ("task", "data", "teacher", "student")})
    with pytest.raises(ConfigError, match=message) as caught:
        load_run_splits(config)
    assert len(caught.value.faults) == 1


def test_hidden_states_need_the_teacher_itself(of_some_tokens, tmp_path, monkeypatch):
    """A run with them is opened and trained; a store is refused with the reason. Its building asks few examples twice."""
    asked = of_some_tokens.distillation.model_copy(update={"hidden": HiddenTerm(0.5)})
    config = of_some_tokens.model_copy(update={"distillation": asked, "training": {"max_steps": 1}})
    opened = inspect_run(config, tmp_path)
    trainer = train(opened.student, opened.teacher, opened.splits.train, config, folder=tmp_path)
    assert trainer._hidden_states is not None
    store, asked = tmp_path / "store", []
    count = len(opened.splits.train)
    with monkeypatch.context() as patch:
        patch.setattr(
            "limbeck.commands.cache.rows_of", lambda model, some: asked.append(len(some)) or rows_of(model, some)
        )
        build_cache(config.model_copy(update={"cache": CacheConfig("hidden")}), store)
    assert asked == [8]  # for the table of formats, and not all of them again
    assert count > 8
    stored = dataclasses.replace(config.teacher, cache=str(store))
    with pytest.raises(ConfigError, match=r"distillation.hidden: needs one model that is run .* a store"):
        inspect_run(config.model_copy(update={"teacher": stored}), tmp_path)
