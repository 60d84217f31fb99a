"""Tokens by id: padding is cut, any id that means two things is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ArgumentError
from limbeck.outputs import Vocabulary, align_vocabularies

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
