import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from limbeck.data import DataConfig, hide_labels, identity_collate, load_splits
from limbeck.errors import DataError


def rows_of(splits):
    return [set(part.ids.tolist()) for part in (splits.train, splits.validation, splits.test)]


def test_digits_are_kept_apart_and_stratified():
    splits = load_splits(DataConfig())
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1097, 300, 400]
    train, validation, test = rows_of(splits)
    assert len(train | validation | test) == 1797
    for part in (splits.train, splits.validation, splits.test):
        shares = torch.bincount(part.labels, minlength=10) / len(part)
        assert shares.min() > 0.08
        assert shares.max() < 0.12
    again = load_splits(DataConfig(), seed=5)
    assert rows_of(again) == rows_of(splits)  # the seed draws labels, not the split
    pixels = splits.train.as_one_batch()["pixel_values"]
    assert pixels.shape == (1097, 1, 8, 8)
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_hidden_labels():
    splits = load_splits(DataConfig(labelled=100), seed=1)
    assert splits.labelled.sum() == 100
    assert torch.bincount(splits.train.labels[splits.labelled]).tolist() == [10] * 10
    assert torch.equal(splits.true_labels[splits.labelled], splits.train.labels[splits.labelled])
    other = hide_labels(splits, 100, seed=2)
    assert not torch.equal(other.labelled, splits.labelled)
    assert torch.equal(hide_labels(other, None).train.labels, splits.true_labels)
    assert hide_labels(splits, 0.1).labelled.sum() == 110


def test_transfer_left_out():
    splits = load_splits(DataConfig(labelled=100, transfer="labelled"))
    assert len(splits.train) == 100
    assert splits.labelled.all()
    assert set(splits.train.ids.tolist()) < rows_of(load_splits(DataConfig()))[0]


def test_batches_come_whole_from_a_loader():
    splits = load_splits(DataConfig(labelled=50))
    batch = next(iter(DataLoader(splits.train, batch_size=7, collate_fn=identity_collate)))
    assert batch["pixel_values"].shape == (7, 1, 8, 8)
    assert batch["example_id"].tolist() == splits.train.ids[:7].tolist()
    one = splits.train[3]
    assert torch.equal(one["pixel_values"], batch["pixel_values"][3])
    with pytest.raises(IndexError):
        splits.train[len(splits.train)]


@pytest.mark.parametrize(
    ("labelled", "message"), [(5000, "data.labelled: cannot draw 5000"), (3, "data.labelled: cannot draw 3")]
)
def test_too_many_or_too_few_labels(labelled, message):
    with pytest.raises(DataError, match=message):
        load_splits(DataConfig(labelled=labelled))


def write_csv(path, texts, labels, header="text,label"):
    path.write_text("\n".join([header, *(f"{t},{y}" for t, y in zip(texts, labels, strict=True))]) + "\n")


@pytest.fixture
def tokenizer(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i + 2 for i in range(20)}
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "tokenizer"
    PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "disk"])
def test_texts_from_files(kind, tmp_path, tokenizer):
    import datasets

    texts = [" ".join(["w1", "w2", "w3"][: 1 + i % 3]) for i in range(40)]
    labels = ["good" if i % 2 else "bad" for i in range(40)]
    path = tmp_path / f"reviews.{kind}"
    data = datasets.Dataset.from_dict({"text": texts, "label": labels})
    if kind == "csv":
        write_csv(path, texts, labels)
    elif kind == "jsonl":
        data.to_json(path)
    elif kind == "parquet":
        data.to_parquet(path)
    else:
        data.save_to_disk(path)
    splits = load_splits(DataConfig(name=str(path), tokenizer=tokenizer, max_length=2))
    assert splits.label_names == ["bad", "good"]
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [32, 4, 4]
    assert len(splits.notes) == 2  # it says what it carved out
    batch = splits.train.__getitems__([0, 1, 2, 3, 4])
    assert batch["input_ids"].shape[1] <= 2
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert splits.preprocessing(["w5 w6", "w7"])["input_ids"].tolist() == [[7, 8], [9, 0]]


def test_files_for_validation_and_test(tmp_path, tokenizer):
    for name, count in (("train", 20), ("validation", 6), ("test", 8)):
        write_csv(tmp_path / f"{name}.csv", ["w1"] * count, [i % 2 for i in range(count)])
    splits = load_splits(
        DataConfig(
            name=str(tmp_path / "train.csv"), validation=str(tmp_path / "validation.csv"),
            test=str(tmp_path / "test.csv"), tokenizer=tokenizer,
        )
    )  # fmt: skip
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [20, 6, 8]
    assert splits.notes == []


def test_an_image_folder(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(15):
            pixels = generator.integers(0, 256, (9, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    splits = load_splits(DataConfig(name=str(tmp_path / "pets"), image_size=8))
    assert splits.label_names == ["cat", "dog"]
    assert splits.shape.image == (3, 8, 8)
    assert splits.train.__getitems__([0, 1])["pixel_values"].shape == (2, 3, 8, 8)
    grey = load_splits(DataConfig(name=str(tmp_path / "pets"), channels=1))
    assert grey.shape.image == (1, 9, 7)


def test_fashion_mnist_from_a_folder(tmp_path):
    import struct

    generator = np.random.default_rng(0)
    for prefix, count in (("train", 6000), ("t10k", 50)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
            (tmp_path / f"{prefix}-{kind}-ubyte").write_bytes(header + values.tobytes())
    splits = load_splits(DataConfig(name="fashion-mnist", folder=str(tmp_path)))
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [1000, 5000, 50]
    assert splits.label_names[9] == "Ankle boot"
    assert splits.shape.image == (1, 28, 28)


class TestErrors:
    def test_nothing_of_that_name(self):
        with pytest.raises(DataError, match=r"data\.name: 'no/such-set'.*digits, fashion-mnist, a Hugging Face id"):
            load_splits(DataConfig(name="no/such-set"))

    def test_no_folder(self):
        with pytest.raises(DataError, match=r"data\.folder: /nowhere is no folder"):
            load_splits(DataConfig(name="fashion-mnist", folder="/nowhere"))

    def test_columns(self, tmp_path, tokenizer):
        write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, 1] * 10, header="words,mood")
        with pytest.raises(DataError, match=r"data\.label_column: none of the columns words, mood"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), tokenizer=tokenizer))
        with pytest.raises(DataError, match=r"data\.label_column: no column 'x'"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), label_column="x", tokenizer=tokenizer))
        named = DataConfig(name=str(tmp_path / "a.csv"), label_column="mood", text_column="words", tokenizer=tokenizer)
        assert len(load_splits(named).train) == 16

    def test_no_tokenizer(self, tmp_path):
        write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, 1] * 10)
        with pytest.raises(DataError, match=r"data\.tokenizer: needed for texts"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv")))

    def test_a_file_of_another_kind(self, tmp_path):
        (tmp_path / "a.xlsx").write_text("x")
        with pytest.raises(DataError, match=r"not one of \.csv"):
            load_splits(DataConfig(name=str(tmp_path / "a.xlsx")))

    def test_a_label_that_train_lacks(self, tmp_path, tokenizer):
        write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, 1] * 10)
        write_csv(tmp_path / "b.csv", ["w1"] * 2, [0, 7])
        with pytest.raises(DataError, match="test has the label 7"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), test=str(tmp_path / "b.csv"), tokenizer=tokenizer))
