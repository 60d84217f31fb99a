"""Labels mean the same in every split, whatever the order, the type and the names they are written in."""

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data import IGNORE_INDEX
from limbeck.data.labels import are_lists, encode_label_lists, encode_labels, notes_on_labels
from limbeck.errors import DataError

any_names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=6, unique=True)
class_names = any_names.filter(lambda names: all(name.strip() and name not in ("-1", "-100") for name in names))


def named(labels, names):
    features = datasets.Features({"label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"label": labels}, features)


def plain(labels):
    return datasets.Dataset.from_dict({"label": labels})


def encode(**tables):
    labels, names = encode_labels(tables, "label")
    return {split: values.tolist() for split, values in labels.items()}, names


@given(names=class_names, data=st.data())
def test_another_order_is_brought_to_that_of_train(names, data):
    order = data.draw(st.permutations(names))
    drawn = data.draw(st.lists(st.sampled_from(names)))
    of_train = named([*range(len(names))], names)
    for test in (named([order.index(name) for name in drawn], order), plain(drawn or [None])):
        labels, found = encode(train=of_train, test=test)
        assert found == names
        assert labels["test"] == ([names.index(name) for name in drawn] or labels["test"])


@given(names=class_names, data=st.data())
def test_texts_without_class_labels(names, data):
    order = data.draw(st.permutations(names))
    labels, found = encode(train=plain(order), test=named([*range(len(order))], order))
    assert found == sorted(names)
    assert [found[i] for i in labels["train"]] == order
    assert labels["test"] == labels["train"]


@given(classes=st.sets(st.integers(0, 2**40), min_size=2), data=st.data())
def test_integers_are_sorted_as_numbers(classes, data):
    order = data.draw(st.permutations(sorted(classes)))
    labels, found = encode(train=plain([*order, -1, None, IGNORE_INDEX]), test=plain([float(order[0]), None]))
    assert found == [str(value) for value in sorted(classes)]
    assert [int(found[i]) for i in labels["train"][: len(order)]] == order
    assert labels["train"][len(order) :] == [IGNORE_INDEX] * 3
    assert labels["test"] == [labels["train"][0], IGNORE_INDEX]


def test_no_label():
    labels, _ = encode(train=named([0, -1, 1, None], ["a", "b"]), test=named([-1, None], ["b", "a"]))
    assert labels == {"train": [0, IGNORE_INDEX, 1, IGNORE_INDEX], "test": [IGNORE_INDEX] * 2}
    labels, _ = encode(train=plain(["a", "", "b", " ", None, "-1"]), test=datasets.Dataset.from_dict({"text": ["x"]}))
    assert labels == {"train": [0, IGNORE_INDEX, 1, *[IGNORE_INDEX] * 3], "test": [IGNORE_INDEX]}


def test_minus_one_and_one_are_classes_where_they_are_all_there_is():
    assert encode(train=plain([-1, 1, 1]), test=plain([-1])) == ({"train": [0, 1, 1], "test": [0]}, ["-1", "1"])
    assert encode(train=named([0, -1], ["-1", "0"]), test=plain(["-1", "0"]))[0] == {
        "train": [0, IGNORE_INDEX],
        "test": [0, 1],
    }


def test_bools():
    assert encode(train=plain([True, False, None]))[0] == {"train": [1, 0, IGNORE_INDEX]}


def test_the_notes_say_where_labels_are_missing():
    labels, names = encode_labels({"train": plain([0, 1, -1]), "test": plain([0])}, "label")
    assert notes_on_labels(labels, names, "classification") == [
        "1 of 3 examples of train have no label (an empty cell, or -1). If -1 is a class here, give it a name."
    ]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (named([0, 1], ["a", "b"]), named([1], ["a", "c"]), "test has the label 'c', which train lacks. train has 'a', 'b'."),
        (plain([0, 1]), plain([7]), "test has the label 7, which train lacks. train has '0', '1'."),
        (named([0, 1], ["a", "b"]), plain([1]), "test has plain numbers such as 1, where train has named classes"),
        (plain([0.5, 3.7]), plain([0.5]), "holds numbers such as 0.5, which are no classes"),
        (plain([[0], [1]]), plain([[0]]), "holds list, expected a class for each example"),
        (plain([3, 3]), plain([3]), "of train has one class only, '3'"),
        (plain([None, ""]), plain([3]), "of train has empty cells alone"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(train, test, message):
    with pytest.raises(DataError) as caught:
        encode(train=train, test=test)
    assert message in str(caught.value)
    assert str(caught.value).startswith("data.label_column: ")


def test_class_labels_that_are_called_by_numbers():
    """As of MNIST, whose classes are called "0" to "9": a plain number can only mean the class of that name."""
    assert encode(train=named([0, 1], ["3", "5"]), test=plain([5, 3]))[0]["test"] == [1, 0]


class TestLists:
    """Several classes for each example."""

    @staticmethod
    def table(rows):
        return datasets.Dataset.from_dict({"tags": rows})

    def test_names_numbers_empty_lists_and_empty_cells(self):
        tables = {"train": self.table([["b", "a"], [], None, ["c"]]), "test": self.table([["c", "c"]])}
        assert are_lists(tables, "tags")
        labels, names = encode_label_lists(tables, "tags")
        assert names == ["a", "b", "c"]
        assert labels["train"].tolist() == [[1, 1, 0], [0, 0, 0], [-100] * 3, [0, 0, 1]]
        assert labels["test"].tolist() == [[0, 0, 1]]
        assert notes_on_labels(labels, names, "classification") == [
            "1 of 4 examples of train have no label (an empty cell, or -1)."
        ]
        assert encode_label_lists({"train": self.table([[2, 10], [1]])}, "tags")[1] == ["1", "2", "10"]

    def test_what_names_no_class(self):
        with pytest.raises(DataError, match=r"data.label_column: test has the label 'z', which train lacks"):
            encode_label_lists({"train": self.table([["a"]]), "test": self.table([["z"]])}, "tags")
        with pytest.raises(DataError, match="hold no names or numbers of classes"):
            encode_label_lists({"train": self.table([[0.5]])}, "tags")
        for odd in (None, "", " "):
            with pytest.raises(
                DataError, match="row 1 of train has a list in column 'tags' with an entry that is empty"
            ):
                encode_label_lists({"train": self.table([["a"], ["b", odd]])}, "tags")
        with pytest.raises(DataError, match="name no class"):
            encode_label_lists({"train": self.table([[], []])}, "tags")
