"""The cache section of a config: how it is read and checked, and which codec it asks for."""

import json
from dataclasses import fields

import pytest
from pydantic import TypeAdapter, ValidationError

from limbeck.errors import ArgumentError, StoreError
from limbeck.store import CacheConfig, Dense, Hidden, Sampled, TopK

READER = TypeAdapter(CacheConfig)


def read(**values):
    return READER.validate_json(json.dumps(values), strict=True)


def test_defaults():
    assert read() == CacheConfig()
    assert [field.name for field in fields(CacheConfig)] == [
        "format", "dtype", "k", "temperatures", "draws", "views", "shard_rows",
    ]  # fmt: skip
    assert CacheConfig() == CacheConfig("dense", "float16", 64, None, 12, 1, None)


@pytest.mark.parametrize(
    ("values", "codec"),
    [
        (dict(), Dense("float16")),
        (dict(dtype="int8"), Dense("int8")),
        (dict(format="hidden", dtype="bfloat16"), Hidden("bfloat16")),
        (dict(format="sampled", draws=3), Sampled(3, 4.0)),
        (dict(format="topk"), TopK(64, (4.0,), "float16")),
        (dict(format="topk", k=5, dtype="float32", temperatures=[8, 2.0, 1, 2]), TopK(5, (2.0, 8.0), "float32")),
        (dict(format="topk", temperatures=[], dtype="int8"), TopK(64, (), "float16")),
    ],
    ids=str,
)
def test_the_section_gives_the_codec(values, codec):
    assert read(**values).codec(4.0) == codec


def test_at_temperature_1_a_top_k_list_needs_no_normaliser():
    assert read(format="topk").codec(1.0) == TopK(64, ())


@pytest.mark.parametrize(
    ("values", "argument"),
    [
        (dict(k=0), "k"),
        (dict(k=0, format="topk"), "k"),
        (dict(draws=0), "draws"),
        (dict(views=0), "views"),
        (dict(shard_rows=0), "shard_rows"),
        (dict(temperatures=(2.0, -1.0)), "temperatures"),
        (dict(temperatures=(float("inf"),)), "temperatures"),
        (dict(format="hidden", dtype="int8"), "dtype"),
        (dict(dtype="float8"), "dtype"),
        (dict(format="zip"), "format"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(values, argument):
    with pytest.raises(ArgumentError) as caught:
        CacheConfig(**values)
    assert caught.value.argument == argument
    assert isinstance(caught.value, StoreError)
    with pytest.raises(ValidationError):
        read(**values)


@pytest.mark.parametrize("values", [dict(k="5"), dict(k=2.5), dict(views=True), dict(temperatures=2.0)], ids=str)
def test_values_of_a_wrong_type_are_refused(values):
    with pytest.raises(ValidationError):
        read(**values)
