"""Groups of examples: their numbers, and those that are on both sides of given files."""

import datasets

from limbeck.data import DataConfig, load_splits
from limbeck.data.groups import number_groups


def test_an_example_without_a_group_is_one_of_its_own():
    train = datasets.Dataset.from_dict({"who": ["ann", None, "bob", "ann", None]})
    assert number_groups("who", train).tolist() == [0, 1, 2, 0, 3]
    more = datasets.Dataset.from_dict({"who": ["bob", "eve"]})
    assert number_groups("who", train, more).tolist() == [0, 1, 2, 0, 3, 2, 4]
    assert number_groups("who", train, more.rename_column("who", "whose")).tolist() == [0, 1, 2, 0, 3, 4, 5]


def test_groups_that_given_files_share_are_told(tmp_path):
    for name, people in (("train", range(20)), ("test", range(17, 25)), ("validation", range(30, 40))):
        rows = "".join(f"{i},{i},{'ab'[i % 2]}\n" for i in people)
        (tmp_path / f"{name}.csv").write_text(f"x,who,label\n{rows},,\n")
    files = {split: str(tmp_path / f"{split}.csv") for split in ("test", "validation")}
    splits = load_splits(DataConfig(str(tmp_path / "train.csv"), group_column="who", **files))
    told = [note for note in splits.notes if "Groups of" in note]
    assert told == ["Groups of test that are in train too: 3, such as 17.0. Results may be too good."]
