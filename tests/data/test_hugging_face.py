import numpy as np
import pytest
from PIL import Image

from limbeck.data import IGNORE_INDEX, DataConfig, load_splits
from limbeck.errors import DataError
from support.texts import write_csv


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


class TestUnlabelled:
    def test_empty_cells_and_minus_one_in_files(self, tmp_path, tokenizer):
        """Each file is read for itself: with empty cells, a column of integers becomes one of floats."""
        write_csv(tmp_path / "train.csv", ["w1"] * 40, [0, 1, "", 2] * 10)
        write_csv(tmp_path / "validation.csv", ["w1"] * 6, [0, 1, 2, 0, "", -1])
        (tmp_path / "test.csv").write_text("text\nw1\nw2\n")  # without the column
        names = {split: str(tmp_path / f"{split}.csv") for split in ("validation", "test")}
        splits = load_splits(DataConfig(name=str(tmp_path / "train.csv"), tokenizer=tokenizer, **names))
        assert splits.label_names == ["0", "1", "2"]
        assert splits.true_labels.tolist() == [0, 1, IGNORE_INDEX, 2] * 10
        assert splits.validation.labels.tolist() == [0, 1, 2, 0]
        assert splits.test.labels.tolist() == [IGNORE_INDEX] * 2
        assert not splits.has_test_labels
        assert splits.notes == [
            "10 of 40 examples of train have no label (an empty cell, or -1).",
            "2 of 6 examples of validation have no label (an empty cell, or -1).",
            "2 of 2 examples of test have no label (an empty cell, or -1).",
            "The test set has no labels: on it a student can be compared with the teacher alone, not with the truth.",
            "The validation set is the 4 of its 6 examples that have a label.",
        ]

    @pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "n/a"])
    def test_a_class_may_be_called_none(self, tmp_path, tokenizer, word):
        write_csv(tmp_path / "a.csv", ["w1"] * 40, [word, "some"] * 20)
        splits = load_splits(DataConfig(name=str(tmp_path / "a.csv"), tokenizer=tokenizer))
        assert splits.label_names == sorted([word, "some"])
        assert splits.labelled.all()

    def test_the_shape_of_glue(self, tmp_path, tokenizer):
        """Its test split has -1 in a column of two named classes."""
        import datasets

        features = datasets.Features(
            {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
        )
        rows = {"train": [0, 1] * 10, "validation": [1, 0, 1], "test": [-1] * 4}
        datasets.DatasetDict(
            {
                split: datasets.Dataset.from_dict({"sentence": ["w1"] * len(labels), "label": labels}, features)
                for split, labels in rows.items()
            }
        ).save_to_disk(tmp_path / "set")
        splits = load_splits(DataConfig(name=str(tmp_path / "set"), tokenizer=tokenizer))
        assert splits.validation.labels.tolist() == rows["validation"]
        assert (len(splits.test), splits.has_test_labels) == (4, False)


class TestErrors:
    def test_nothing_of_that_name(self):
        with pytest.raises(DataError, match=r"data\.name: 'no/such-set'.*digits, fashion-mnist, a Hugging Face id"):
            load_splits(DataConfig(name="no/such-set"))
        with pytest.raises(DataError, match=r"data\.name: 'digit' cannot be read: .* Did you mean digits\?$"):
            load_splits(DataConfig(name="digit"))

    def test_the_reason_that_a_file_cannot_be_read(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": ')
        with pytest.raises(DataError, match=r"data\.name: '.*a\.jsonl' cannot be read: JSON parse error"):
            load_splits(DataConfig(name=str(tmp_path / "a.jsonl")))

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

    def test_an_image_column_that_has_none(self, tmp_path):
        write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, 1] * 10)
        with pytest.raises(DataError, match=r"data\.image_column: no column 'picture'; there are text, label"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), image_column="picture"))
        with pytest.raises(DataError, match=r"data\.image_column: column 'text' of train holds str, not images"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), image_column="text"))

    def test_one_class(self, tmp_path, tokenizer):
        write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, ""] * 10)
        with pytest.raises(DataError, match=r"data\.label_column: column 'label' of train has one class only, '0'"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), tokenizer=tokenizer))

    def test_a_data_set_without_training(self, tmp_path):
        import datasets

        test = datasets.Dataset.from_dict({"text": ["w1"], "label": [0]})
        datasets.DatasetDict({"test": test, "extra": test}).save_to_disk(tmp_path / "set")
        with pytest.raises(DataError, match=r"has no split 'train', only test, extra"):
            load_splits(DataConfig(name=str(tmp_path / "set")))


def test_a_subset_of_a_data_set_of_the_hub(tmp_path, monkeypatch, tokenizer):
    import datasets

    table = datasets.Dataset.from_dict({"sentence": ["w1", "w2"] * 10, "label": [0, 1] * 10})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given: asked.append(given) or {"train": table})
    load_splits(DataConfig("nyu-mll/glue", subset="sst2", tokenizer=tokenizer))
    assert asked == [("nyu-mll/glue", "sst2")]
    (tmp_path / "a.csv").touch()
    for name in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(DataError, match=r"data\.subset: has no effect on .*, which is a (file|folder)"):
            load_splits(DataConfig(str(name), subset="sst2"))
