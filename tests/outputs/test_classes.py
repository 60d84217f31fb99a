"""Classes by name: a permutation is undone, a superset is cut, anything else is refused with both lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ArgumentError
from limbeck.outputs import ClassNames, align_classes, is_generic

NAMES = st.lists(st.text(max_size=6), min_size=1, max_size=12, unique=True).filter(lambda names: not is_generic(names))


@given(NAMES, st.randoms(use_true_random=False), st.integers(0, 5))
def test_every_order_and_every_surplus_comes_back_to_the_students_order(names, random, surplus):
    extra = [f"{max(names, key=len)}+{i}" for i in range(surplus)]
    shuffled = [*names, *extra]
    random.shuffle(shuffled)
    columns = align_classes(ClassNames(tuple(shuffled)), ClassNames(tuple(names)))
    seen = shuffled if columns is None else [shuffled[i] for i in columns]
    assert seen == names


@given(NAMES, st.data())
def test_a_class_that_the_teacher_lacks_is_refused_by_name(names, data):
    lost = data.draw(st.sampled_from(names))
    teacher = ClassNames(tuple(name for name in names if name != lost), "the teacher")
    if not teacher.are_known:
        return
    with pytest.raises(ArgumentError, match="lacks 1 of the") as caught:
        align_classes(teacher, ClassNames(tuple(names), "the data"))
    assert repr(lost) in caught.value.message


def test_generic_names_are_numbers():
    generic = ClassNames(("LABEL_0", "LABEL_1"))
    assert align_classes(generic, ClassNames(("neg", "pos"))) is None
    assert align_classes(ClassNames(("neg", "pos")), generic) is None
    with pytest.raises(ArgumentError, match="2 output columns without names, and the data has 3"):
        align_classes(ClassNames(generic.names, "teacher"), ClassNames(("a", "b", "c"), "the data"))
    assert not is_generic(["LABEL_1", "LABEL_0"])  # another order than the numbers say means something


def test_a_name_for_two_classes_is_refused():
    with pytest.raises(ArgumentError, match="'cat' for several classes"):
        ClassNames(("cat", "dog", "cat"), "teacher")


def test_another_spelling_is_pointed_out():
    with pytest.raises(ArgumentError, match="spelling alone \\('Ankle Boot' for 'ankle-boot'\\)"):
        align_classes(ClassNames(("Ankle Boot", "shirt")), ClassNames(("ankle-boot", "shirt")))


def test_numbers_of_labels_are_no_other_names():
    numbers = ClassNames(("0", "1"), "the estimator", numbers_allowed=True)
    assert align_classes(numbers, ClassNames(("cat", "dog"))) is None
    assert align_classes(numbers, ClassNames(("1", "0"))) == (1, 0)
    for other in (ClassNames(("1", "2")), ClassNames(("cat", "dog", "cow"))):
        with pytest.raises(ArgumentError):
            align_classes(numbers, other)
    with pytest.raises(ArgumentError):
        align_classes(ClassNames(("0", "1")), ClassNames(("cat", "dog")))


def test_long_lists_are_cut():
    with pytest.raises(ArgumentError, match="and 992 more") as caught:
        align_classes(ClassNames(tuple(map(str, range(1000)))), ClassNames(tuple(f"c{i}" for i in range(1000))))
    assert len(str(caught.value)) < 1000
