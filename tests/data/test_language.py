"""Documents for a language model: what counts in them, how they are packed and padded, and what is refused."""

import json
import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from limbeck.data import DataConfig, load_splits
from limbeck.errors import DataError
from limbeck.tasks import CausalLM
from support.language import ended_tokenizer, llama, masked_tokenizer, tokenizer, write_corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    tokenizer().save_pretrained(folder / "tokenizer")
    tokenizer(padding_side="left").save_pretrained(folder / "left")
    write_corpus(folder / "texts")
    return folder


def read(name, folder, task="causal_lm", **given):
    given = {"tokenizer": str(folder / "tokenizer"), "max_length": 32} | given
    return load_splits(DataConfig(str(name), **given), task=task)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def losses(examples):
    """Return the mean cross-entropy of a tiny model over the tokens that count, and their number."""
    task, model = CausalLM(), llama()
    batch = examples.as_one_batch()
    inputs = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        logits = task.align(model(**inputs, use_cache=False).logits)
    targets = task.targets(batch)
    return cross_entropy(logits[targets.mask].double(), targets.labels[targets.mask]).item(), int(targets.mask.sum())


def alone(texts):
    """Return the same for texts that the model reads one by one, each with the token for its end."""
    total, count, model, made = 0.0, 0, llama(), tokenizer()
    for text in texts:
        ids = torch.tensor([[*made(text)["input_ids"], made.eos_token_id]])
        with torch.no_grad():
            total += cross_entropy(model(ids).logits[0, :-1].double(), ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return total / count, count


def test_a_block_keeps_documents_apart(folder, tmp_path):
    texts = ["w1 w2 w3", "w4 w5", "w6 w7 w8 w9 w10"]
    write_rows(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    given = {"validation": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "a.jsonl")}
    packed = read(tmp_path / "a.jsonl", folder, max_length=13, **given).train
    assert (len(packed), packed.load.lengths) == (1, [13])
    assert losses(packed) == pytest.approx(alone(texts), rel=1e-5)
    filled = read(tmp_path / "a.jsonl", folder, max_length=12, **given).train  # the last block has a rest of padding
    batch = filled.as_one_batch()
    assert (len(filled), int(batch["mask"].sum())) == (2, 10 - 1)  # the part in the second block has a first token too
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]
    for side in ("tokenizer", "left"):
        padded = read(tmp_path / "a.jsonl", folder, packing=False, tokenizer=str(folder / side), **given).train
        assert losses(padded) == pytest.approx(alone(texts), rel=1e-5)
        assert bool(padded.as_one_batch()["attention_mask"][1, 0]) == (side == "tokenizer")


def test_documents_are_in_one_split_alone(folder):
    splits = read(folder / "texts", folder)
    parts = (splits.train, splits.validation, splits.test)
    sizes = [sum(part.load.lengths) for part in parts]
    assert sizes[0] > 5 * sizes[1]
    words = sum(len(path.read_text().split()) + 1 for path in (folder / "texts").iterdir())
    counted = sum(int((part.load._tokens != 0).sum()) for part in parts)
    assert counted == words  # each token is in one of them
    assert splits.notes == [
        f"3 of the 30 documents, drawn at random, are the {part} set." for part in ("test", "validation")
    ]
    assert splits.train.load.bytes_per_token == pytest.approx(3.5, abs=0.3)


def test_one_text_is_cut_where_a_paragraph_ends(folder, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(["w1 w2 w3 w4 w5 w6 w7 w8"] * 40))
    splits = read(tmp_path / "a.txt", folder)
    assert "its end is the validation and the test set" in splits.notes[0]
    assert splits.test.load([0])["input_ids"][0, :3].tolist() == tokenizer()("w1 w2 w3")["input_ids"]


def counted_words(examples):
    batch = examples.as_one_batch()
    return [tokenizer().decode(row[keep]) for row, keep in zip(batch["input_ids"], batch["mask"], strict=True)]


@pytest.mark.parametrize(
    ("loss_on", "counted"),
    [
        (None, "w2 w3 [EOS] w5 [EOS]"),
        ("completion", "w5 [EOS]"),
        ("all", "w1 [EOS] assistant w2 w3 [EOS] user w4 [EOS] assistant w5 [EOS]"),
    ],
)
def test_turns_of_a_chat_that_count(folder, tmp_path, loss_on, counted):
    turns = [("user", "w1"), ("assistant", "w2 w3"), ("user", "w4"), ("assistant", "w5")]
    chat = {"messages": [{"role": role, "content": content} for role, content in turns]}
    splits = read(write_rows(tmp_path / "a.jsonl", [chat] * 10), folder, loss_on=loss_on)
    assert counted_words(splits.train)[0] == counted
    assert splits.preprocessing.chat


def test_completions_and_tokens(folder, tmp_path):
    pairs = read(write_rows(tmp_path / "a.jsonl", [{"prompt": "w1 w2 ", "completion": "w3 w4"}] * 10), folder)
    assert counted_words(pairs.train)[0] == "w3 w4 [EOS]"
    rows = [{"input_ids": [3, 4, 5, 6], "labels": [-100, -100, 5, 6]}] * 10
    tokens = read(write_rows(tmp_path / "b.jsonl", rows), folder, tokenizer=None)
    assert tokens.train.as_one_batch()["labels"][0].tolist() == [-100, -100, 5, 6]


def test_what_is_cut_is_told(folder, tmp_path):
    rows = [{"prompt": "w1 " * size, "completion": "w3 w4"} for size in (2, 2, 2, 2, 2, 2, 9, 40)]
    path = str(write_rows(tmp_path / "a.jsonl", rows))
    splits = read(path, folder, max_length=10, validation=path, test=path)
    assert splits.notes[0] == (
        "2 of 8 documents of train are longer than 10 tokens and are cut there, 35 tokens in all; 1 of them had nothing left "
        "to predict and are left out."
    )


@pytest.mark.parametrize(
    ("name", "rows", "given", "message"),
    [
        ("a.txt", "", {}, "data.name: a.txt holds no text: 1 empty files"),
        ("a.txt", "w1 w2", {}, "data.max_length: the training texts have"),
        ("a.jsonl", [{"text": "w1"}] * 2, {}, "data.name: 2 documents are too few to hold some out"),
        ("a.jsonl", [{"words": "w1"}] * 9, {}, "data.text_column: none of the columns words has a usual name"),
        ("a.jsonl", [{"text": 1}] * 9, {}, "data.text_column: column 'text' holds int. Expected texts"),
        ("a.jsonl", [{"text": None}, {"text": "w1"}] * 9, {}, "data.text_column: row 0 of train has an empty cell"),
        ("a.jsonl", [{"input_ids": [1, 2], "labels": [-100, -100]}] * 9, {}, "nothing in the train set counts"),
        ("a.jsonl", [{"input_ids": [1, 2], "labels": [2, -100]}] * 9, {}, "row 0: the labels are not the tokens"),
        ("a.jsonl", [{"input_ids": [1, -1]}] * 9, {}, "row 0: -1 is no id of a token"),
        ("a.jsonl", [{"messages": [{"role": "user"}]}] * 9, {}, "row 0: expected a list of messages"),
        ("a.jsonl", [{"text": "w1 w2"}] * 9, {"loss_on": "assistant"}, "data.loss_on: assistant is not for texts"),
        ("a.jsonl", [{"text": "w1 w2"}] * 9, {"labelled": 3}, "data.labelled: the labels are the tokens of the texts"),
        ("a.jsonl", [{"text": "w1 w2"}] * 9, {"image_size": 3}, "data.image_size: has no effect on texts"),
        ("a.jsonl", [{"text": "w1 w2"}] * 9, {"tokenizer": None}, "data.tokenizer: needed for texts"),
        ("missing.txt", None, {}, "data.name: no file or folder missing.txt"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(folder, tmp_path, monkeypatch, name, rows, given, message):
    monkeypatch.chdir(tmp_path)
    if isinstance(rows, str):
        (tmp_path / name).write_text(rows)
    elif rows is not None:
        write_rows(tmp_path / name, rows)
    with pytest.raises(DataError) as caught:
        read(name, folder, **given)
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1


def test_a_template_that_does_not_tell_the_turns(folder, tmp_path):
    chat = {"messages": [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]}
    path = write_rows(tmp_path / "a.jsonl", [chat] * 10)
    for template, message in (
        (None, "data.tokenizer: has no chat template"),
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "data.tokenizer: its chat template has no generation prompt",
        ),
        (
            "{{ messages | length }}{% if add_generation_prompt %}!{% endif %}",
            "row 0: the chat template writes the first 2",
        ),
        (
            "{% if messages | length > 1 %}{{ raise_exception('no') }}{% endif %}{% if add_generation_prompt %}!{% endif %}",
            "(no)",
        ),
    ):
        made = tokenizer()
        made.chat_template = template
        made.save_pretrained(tmp_path / "tokenizer")
        if template is None:
            (tmp_path / "tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
        with pytest.raises(DataError, match=message.replace("(", r"\(").replace(")", r"\)")):
            read(path, folder, tokenizer=str(tmp_path / "tokenizer"))


def write_tokenizers(folder):
    masked_tokenizer().save_pretrained(folder / "masked")
    ended_tokenizer().save_pretrained(folder / "ended")
    without = masked_tokenizer()
    without.pad_token = None
    without.save_pretrained(folder / "without padding")


def test_texts_with_masks_are_joined_or_cut(folder, tmp_path):
    write_tokenizers(tmp_path)
    given = {"tokenizer": str(tmp_path / "masked"), "task": "masked_lm"}
    words = [len(path.read_text().split()) for path in (folder / "texts").iterdir()]
    joined = read(folder / "texts", folder, **given)
    parts = (joined.train, joined.validation, joined.test)
    assert sum(sum(part.load.lengths) for part in parts) == sum(words) + 2 * len(words)
    assert sum(int(part.load.counted.sum()) for part in parts) == sum(words)
    assert set(joined.train.load.lengths[:-1]) == {32}
    cut = read(folder / "texts", folder, packing=False, **given)
    assert max(cut.train.load.lengths) == 32
    assert all(document.tokens[-1] == 27 for document in cut.train.load._documents)  # [SEP], also where a text is cut
    assert any(re.fullmatch(r"\d+ texts of train are longer than 32 tokens and are cut there.", n) for n in cut.notes)
    rows = [{"input_ids": [2 + i % 9, 3, 4, 28, 6] * 9, "labels": [2 + i % 9, -100, 4, 28, 6] * 9} for i in range(30)]
    tokens = read(write_rows(tmp_path / "a.jsonl", rows), folder, **given).train.load
    assert tokens.lengths == [32] * 24
    assert tokens.counted.tolist() == [19] * 24  # neither what has no label nor [MASK] itself


def test_only_training_masks_anew(folder, tmp_path):
    write_tokenizers(tmp_path)
    train = read(folder / "texts", folder, tokenizer=str(tmp_path / "masked"), task="masked_lm").train
    assert torch.equal(train.as_one_batch()["labels"], train.as_one_batch()["labels"])
    anew = train.subset(torch.tensor([2, 0])).drawn_anew()
    assert anew.ids.tolist() == [2, 0]
    assert not torch.equal(anew.as_one_batch()["labels"], anew.as_one_batch()["labels"])


def test_pairs_by_their_usual_names(folder, tmp_path):
    write_tokenizers(tmp_path)
    given = {"tokenizer": str(tmp_path / "ended"), "task": "encoder_decoder"}
    for names in (("source", "target"), ("prompt", "completion"), ("question", "answer")):
        rows = [dict(zip(names, (f"w{i % 20} w1", f"w{i % 20}"), strict=True)) for i in range(20)]
        column = names if names[0] == "question" else None
        splits = read(write_rows(tmp_path / "a.jsonl", rows), folder, text_column=column, **given)
        assert splits.train.as_one_batch()["labels"].shape == (16, 2)
        assert splits.preprocessing.column == names[0]
    short = read(tmp_path / "a.jsonl", folder, text_column=column, max_length=2, max_target_length=1, **given)
    assert any("16 texts of the sources of train are longer than 2 tokens" in note for note in short.notes)
    assert short.train.as_one_batch()["labels"].tolist() == [[28]] * 16


@pytest.mark.parametrize(
    ("task", "rows", "given", "message"),
    [
        ("masked_lm", [{"text": "w1"}], {}, "has no mask token, which masked_lm puts in the place of others"),
        ("masked_lm", [{"text": "w1"}], {"tokenizer": "without padding"}, "has no token for padding"),
        ("masked_lm", [{"text": "[MASK] [MASK]"}], {"tokenizer": "masked"}, "nothing in the train set counts"),
        ("masked_lm", [{"text": " "}], {"tokenizer": "masked"}, "nothing in the train set counts"),
        ("masked_lm", [{"prompt": "w1"}], {"tokenizer": "masked"}, "data.text_column: none of the columns prompt"),
        ("masked_lm", [{"messages": [{"role": "user", "content": "w1"}]}], {"tokenizer": "masked"}, "these are chats"),
        ("masked_lm", [{"a": "w1", "b": "w1"}], {"tokenizer": "masked", "text_column": ("a", "b")}, "these are pairs"),
        ("encoder_decoder", [{"text": "w1"}], {"tokenizer": "ended"}, r"as in \[source, target\]. There are text"),
        ("encoder_decoder", [{"source": "w1", "target": None}], {"tokenizer": "ended"}, "has an empty cell in column"),
        ("encoder_decoder", [{"source": "w1", "target": "w1"}], {"tokenizer": "without padding"}, "no token for padd"),
        ("encoder_decoder", "TEXTS", {"tokenizer": "ended"}, "data.name: encoder_decoder learns pairs, and these are texts"),
    ],
)  # fmt: skip
def test_what_the_other_tasks_cannot_read(folder, tmp_path, task, rows, given, message):
    write_tokenizers(tmp_path)
    given = {**given, **({"tokenizer": str(tmp_path / given["tokenizer"])} if "tokenizer" in given else {})}
    name = folder / "texts" if rows == "TEXTS" else write_rows(tmp_path / "a.jsonl", rows * 30)
    with pytest.raises(DataError, match=message) as caught:
        read(name, folder, task=task, **given)
    assert len(caught.value.faults) == 1
