"""Tokens by id: padding is cut, any id that means two things is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ArgumentError
from limbeck.outputs import Vocabulary, align_vocabularies, check_inputs, fingerprint_of_tokens

TOKENS = st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=20, unique=True)


@given(TOKENS, st.integers(0, 50), st.integers(0, 50))
def test_padding_alone_is_cut(tokens, first, second):
    ids = {token: i for i, token in enumerate(tokens)}
    kept = align_vocabularies(Vocabulary(ids, len(ids) + first), Vocabulary(ids, len(ids) + second))
    assert kept == len(ids) + min(first, second)


@given(TOKENS, st.data())
def test_two_tokens_that_change_places_are_refused(tokens, data):
    i, j = data.draw(st.lists(st.integers(0, len(tokens) - 1), min_size=2, max_size=2, unique=True))
    ids = {token: k for k, token in enumerate(tokens)}
    other = {**ids, tokens[i]: j, tokens[j]: i}
    with pytest.raises(ArgumentError, match="2 ids do not stand for the same token"):
        align_vocabularies(Vocabulary(ids, 30), Vocabulary(other, 30))


def test_a_token_of_one_side_alone_is_a_conflict():
    with pytest.raises(ArgumentError, match="2 is '<think>' for the teacher and no token for the student"):
        align_vocabularies(
            Vocabulary({"a": 0, "b": 1, "<think>": 2}, 8, "the teacher"), Vocabulary({"a": 0, "b": 1}, 8, "the student")
        )


def test_a_real_tokenizer_of_the_same_size_is_told_apart():
    one = {f"w{i}": i for i in range(1000)}
    two = {f"w{i}": (i * 7) % 1000 for i in range(1000)}
    with pytest.raises(ArgumentError, match=r"^vocabulary: 99\d ids") as caught:
        align_vocabularies(Vocabulary(one, 1000), Vocabulary(two, 1000))
    assert caught.value.message.count(";") == 4


def test_an_empty_token_and_two_tokens_of_one_id_are_told():
    one, two = {"a": 0, "": 1}, {"a": 0, "b": 0}
    assert align_vocabularies(Vocabulary(two, 2), Vocabulary(dict(reversed(two.items())), 2)) == 2
    with pytest.raises(
        ArgumentError, match="0 is no token for the teacher and 'b' for the student; 1 is '' for the teacher"
    ):
        align_vocabularies(Vocabulary(one, 2, "the teacher"), Vocabulary(two, 2, "the student"))


@given(TOKENS, st.integers(0, 20))
def test_ids_after_the_shared_columns_do_not_matter(tokens, columns):
    ids = {token: i for i, token in enumerate(tokens)}
    shorter = {token: i for token, i in ids.items() if i < columns}
    assert align_vocabularies(Vocabulary(ids, 30), Vocabulary(shorter, columns)) == columns


@given(TOKENS, st.data())
def test_a_teacher_reads_what_it_knows(tokens, data):
    """It may know more tokens than the data have; a token of the data that it does not know is refused."""
    ids = {token: i for i, token in enumerate(tokens)}
    lost = data.draw(st.sampled_from(tokens))
    fewer = {token: i for token, i in ids.items() if token != lost}
    check_inputs(Vocabulary(ids, 0), Vocabulary(fewer, 0))
    with pytest.raises(ArgumentError, match=r"1 id does not stand for the same token .* read as other texts"):
        check_inputs(Vocabulary(fewer, 0), Vocabulary(ids, 0))


@given(TOKENS, st.randoms(use_true_random=False))
def test_a_fingerprint_stands_for_the_tokens(tokens, random):
    ids = {token: i for i, token in enumerate(tokens)}
    shuffled = list(ids.items())
    random.shuffle(shuffled)
    stored = Vocabulary(None, 30, "store", fingerprint_of_tokens(dict(shuffled)))
    assert align_vocabularies(stored, Vocabulary(ids, 40)) == 30
    moved = {**ids, tokens[0]: 1, tokens[1]: 0}
    with pytest.raises(ArgumentError, match="store was made with another tokenizer than the student"):
        align_vocabularies(stored, Vocabulary(moved, 40, "the student"))
