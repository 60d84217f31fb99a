import numpy as np
import pytest
from PIL import Image

from limbeck.data import DataConfig, load_splits
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


class TestErrors:
    def test_nothing_of_that_name(self):
        with pytest.raises(DataError, match=r"data\.name: 'no/such-set'.*digits, fashion-mnist, a Hugging Face id"):
            load_splits(DataConfig(name="no/such-set"))

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
        with pytest.raises(DataError, match=r"data\.image_column: column 'text' holds str, not images"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), image_column="text"))

    def test_empty_labels(self, tmp_path, tokenizer):
        write_csv(tmp_path / "a.csv", ["w1"] * 20, [0, ""] * 10)
        with pytest.raises(DataError, match=r"data\.label_column: column 'label' has empty cells"):
            load_splits(DataConfig(name=str(tmp_path / "a.csv"), tokenizer=tokenizer))

    def test_a_data_set_without_training(self, tmp_path):
        import datasets

        test = datasets.Dataset.from_dict({"text": ["w1"], "label": [0]})
        datasets.DatasetDict({"test": test, "extra": test}).save_to_disk(tmp_path / "set")
        with pytest.raises(DataError, match=r"has no split 'train', only test, extra"):
            load_splits(DataConfig(name=str(tmp_path / "set")))
