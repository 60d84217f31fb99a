"""Tables as files: what the cells of a CSV file mean, and columns of dictionaries."""

import datasets
import pytest

from limbeck.data import DataConfig
from limbeck.data.hugging_face import load_tables
from limbeck.data.new_inputs import read_new_inputs
from limbeck.data.table_files import load_file

PAIRS = [{"translation": {"en": f"a{i}", "fr": f"b{i}"}, "no": i} for i in range(3)]


@pytest.mark.parametrize("word", ["nan", "NaN"])
def test_nan_beside_numbers_is_an_empty_cell(tmp_path, word):
    (tmp_path / "a.csv").write_text(f"size,kind\n1.5,{word}\n{word},b\n,c\n")
    expected = [{"size": 1.5, "kind": word}, {"size": None, "kind": "b"}, {"size": None, "kind": "c"}]
    for rows in (load_tables(DataConfig(name=str(tmp_path / "a.csv")))["train"], load_file(tmp_path / "a.csv")):
        known = [{name: None if cell != cell else cell for name, cell in row.items()} for row in rows]
        assert known == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "folder"])
def test_a_dictionary_has_a_column_for_each_key(tmp_path, name):
    table, path = datasets.Dataset.from_list(PAIRS), tmp_path / name
    if name == "folder":
        languages = datasets.Features(
            {"translation": datasets.Translation(("en", "fr")), "no": datasets.Value("int64")}
        )
        table.cast(languages).save_to_disk(path)
    else:
        table.to_json(path) if name == "a.jsonl" else table.to_parquet(path)
        read = list(read_new_inputs([path], is_image=False, named="translation.fr"))
        assert [item.content for item in read] == ["b0", "b1", "b2"]
    train = load_tables(DataConfig(name=str(path)))["train"]
    assert train[1] == {"translation.en": "a1", "translation.fr": "b1", "no": 1}
