"""Rows of tables as values: what scikit-learn's own pipeline gives, from nothing but JSON."""

import dataclasses
import json

import numpy as np
import pandas
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from limbeck.data.tables import TableFormat
from limbeck.errors import DataError
from support.tables import wine


def pipeline(numbers, categories):
    """Return scikit-learn's transformer of the same meaning. Its deviation is that of the cells which are not empty."""
    scaled = make_pipeline(StandardScaler(), SimpleImputer(strategy="mean"))
    encoded = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="", missing_values=None),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return ColumnTransformer([("numbers", scaled, numbers), ("categories", encoded, categories)])


def test_values_are_those_of_scikit_learn_after_json():
    for frame in (wine(), load_breast_cancer(as_frame=True).data):
        frame = frame.drop(columns="target", errors="ignore")
        train, test = frame[:100], frame[100:].copy()
        fitted = TableFormat.fit(train)
        kept = TableFormat(**json.loads(json.dumps(dataclasses.asdict(fitted))))
        assert kept == fitted
        if fitted.categories:
            test.iloc[0, list(test).index("shade")] = "rosé"
        oracle = pipeline(list(fitted.numbers), list(fitted.categories))
        clean = [part.astype(dict.fromkeys(fitted.categories, object)) for part in (train, test)]
        for part in clean:
            part[list(fitted.categories)] = part[list(fitted.categories)].replace({np.nan: None})
        expected = oracle.fit(clean[0]).transform(clean[1])
        torch.testing.assert_close(kept(test), torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)
        assert kept(test).shape == (len(test), kept.features)


def test_the_order_of_columns_and_other_columns_do_not_matter():
    frame = wine().drop(columns="target")
    fitted = TableFormat.fit(frame)
    assert torch.equal(fitted(frame[list(frame)[::-1]].assign(more=1)), fitted(frame))


FITTED = TableFormat({"age": [40.0, 10.0]}, {"city": ["", "Bern", "Ulm"]})


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"age": 50, "city": "Bern"}, [1, 0, 1, 0]),
        ({"age": "30.0", "city": "Ulm"}, [-1, 0, 0, 1]),  # one text in a file makes pandas read all cells as texts
        ({"age": None, "city": None}, [0, 1, 0, 0]),
        ({"age": "", "city": np.nan}, [0, 1, 0, 0]),
        ({"age": True, "city": "Genf"}, [-3.9, 0, 0, 0]),
    ],
)
def test_cells(cells, expected):
    assert FITTED(pandas.DataFrame([cells])).tolist()[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"age": "old", "city": "Ulm"}, "column 'age' holds 'old'. Numbers are expected"),
        ({"age": [1], "city": "Ulm"}, "column 'age' holds [1]. Numbers are expected"),
        ({"age": 1e999, "city": "Ulm"}, "column 'age' holds infinite numbers"),
        ({"age": 1, "city": 7}, "column 'city' holds 7. Texts such as '', 'Bern', 'Ulm' are expected"),
        ({"age": 1}, "no column 'city'; there are age."),
    ],
)
def test_cells_that_are_something_else(cells, message):
    with pytest.raises(DataError) as error:
        FITTED(pandas.DataFrame([cells]))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([None] * 30, "is empty in the training examples"),
        ([1.0, np.inf], "holds infinite numbers"),
        ([[1], [2]], "holds list, neither numbers nor categories"),
        ([pandas.Timestamp(0), pandas.Timestamp(1)], "holds Timestamp, neither"),
        ([f"name {i}" for i in range(30)], "has 30 different texts in 30 rows"),
        ([f"name {i}" for i in range(1001)] * 3, "has 1001 different texts in 3003 rows"),
    ],
)
def test_columns_that_are_no_inputs(cells, message):
    with pytest.raises(DataError, match=r"data\.columns: column 'x' ") as error:
        TableFormat.fit(pandas.DataFrame({"x": cells}))
    assert message in str(error.value)


def test_rows_are_found_again_from_their_values():
    frame = wine().drop(columns="target")
    fitted = TableFormat.fit(frame[:100])
    found = fitted.rows(fitted(frame))
    assert list(found) == fitted.columns
    for name in fitted.numbers:
        known = frame[name].notna()
        np.testing.assert_allclose(found[name][known], frame[name][known], rtol=1e-5)
        np.testing.assert_allclose(found[name][~known], fitted.numbers[name][0], rtol=1e-5)
    assert found["shade"].fillna("").tolist() == frame["shade"].fillna("").tolist()
    other = frame[:1].assign(shade="rosé")
    assert fitted.rows(fitted(other))["shade"].tolist() == [None]
