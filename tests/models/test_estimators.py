"""Estimators of scikit-learn as models: their probabilities, their classes, and what is refused."""

import joblib
import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from skops.io import dump

from limbeck.data.tables import TableFormat
from limbeck.errors import ArgumentError, ModelError
from limbeck.models import EstimatorModel, forward_logits, is_estimator, load_estimator
from support.tables import wine

ROWS = np.random.default_rng(0).normal(size=(60, 4))
LABELS = np.array(["pos" if row[0] > 0.3 else "neutral" if row[1] > 0 else "neg" for row in ROWS])


def own_step(rows):
    return rows


@pytest.mark.parametrize("shape", [(60, 4), (60, 1, 2, 2)])
def test_the_logits_are_the_logarithms_of_the_probabilities(shape):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)
    logits = forward_logits(EstimatorModel(pipeline), {"x": torch.from_numpy(ROWS).reshape(shape), "labels": None})
    torch.testing.assert_close(logits.softmax(-1).double(), torch.from_numpy(pipeline.predict_proba(ROWS)))
    assert EstimatorModel(pipeline).class_names == ("neg", "neutral", "pos")


def test_what_has_the_methods_of_an_estimator():
    assert is_estimator(LogisticRegression())
    assert not is_estimator(LogisticRegression)
    assert not is_estimator(torch.nn.Linear(1, 1))


def test_estimators_that_cannot_teach():
    with pytest.raises(ArgumentError, match=r"LinearSVC has no predict_proba.*CalibratedClassifierCV"):
        EstimatorModel(LinearSVC().fit(ROWS, LABELS))
    EstimatorModel(CalibratedClassifierCV(LinearSVC(), cv=2).fit(ROWS, LABELS))
    with pytest.raises(ArgumentError, match="not fitted"):
        EstimatorModel(RandomForestClassifier())
    with pytest.raises(ArgumentError, match="has 2 outputs"):
        EstimatorModel(RandomForestClassifier(2).fit(ROWS, np.stack([LABELS, LABELS], 1)))
    named = LogisticRegression().fit(ROWS, LABELS)
    named.feature_names_in_ = np.array(["age", "size", "weight", "income"], dtype=object)  # as after a pandas table
    with pytest.raises(ArgumentError, match=r"named columns.*'age'.*to_numpy"):
        EstimatorModel(named)


@pytest.mark.parametrize("targets", [ROWS[:, 0], ROWS[:, :2]])
def test_a_regressor_gives_the_numbers_that_it_predicts(targets):
    line = make_pipeline(StandardScaler(), Ridge()).fit(ROWS, targets)
    model = EstimatorModel(line)
    assert model.is_regressor
    assert model.class_names is None
    numbers = forward_logits(model, {"x": torch.from_numpy(ROWS)})
    torch.testing.assert_close(numbers.double().numpy(), line.predict(ROWS).reshape(60, -1), rtol=1e-5, atol=1e-6)
    with pytest.raises(ArgumentError, match="this Ridge is not fitted"):
        EstimatorModel(Ridge())


def test_a_pipeline_of_named_columns_is_given_the_rows_of_the_table():
    frame = wine().drop(columns="target")
    labels = wine()["target"]
    encoder = ColumnTransformer([("shade", OneHotEncoder(handle_unknown="ignore"), ["shade"])], remainder="passthrough")
    pipeline = make_pipeline(encoder, SimpleImputer(), RandomForestClassifier(10, random_state=0)).fit(frame, labels)
    table = TableFormat.fit(frame[:50])  # other means than those of all rows
    model = EstimatorModel(pipeline, table=table.rows)
    full = frame[frame["ash"].notna() & frame["shade"].notna()]
    found = model(table(full)).softmax(-1).double()
    torch.testing.assert_close(found, torch.from_numpy(pipeline.predict_proba(full)), rtol=0, atol=1e-6)

    with pytest.raises(ArgumentError, match="fitted on rows without column names"):
        EstimatorModel(LogisticRegression().fit(ROWS, LABELS), table=table.rows)
    fewer = TableFormat.fit(frame[:50].drop(columns="alcohol"))
    with pytest.raises(ModelError, match="fitted on the column 'alcohol', which is no input of the data"):
        EstimatorModel(pipeline, table=fewer.rows)(fewer(frame))


def test_other_rows_than_it_was_fitted_on():
    with pytest.raises(ModelError, match="fitted on rows of 4 numbers, and the batch has 6"):
        EstimatorModel(LogisticRegression().fit(ROWS, LABELS))(torch.zeros(2, 6))
    with pytest.raises(ModelError, match=r"predict_proba fails on an array \(2, 4\).*NaN"):
        EstimatorModel(LogisticRegression().fit(ROWS, LABELS))(torch.full((2, 4), torch.nan))


class TestFiles:
    def test_a_file_of_skops_gives_the_same_answers(self, tmp_path):
        estimator = LogisticRegression().fit(ROWS, LABELS)
        dump(estimator, tmp_path / "model.skops")
        loaded, again = (load_estimator(tmp_path / "model.skops") for _ in range(2))
        rows = torch.from_numpy(ROWS)
        torch.testing.assert_close(loaded(rows), EstimatorModel(estimator)(rows))
        assert torch.equal(loaded.get_extra_state(), again.get_extra_state())
        dump(LogisticRegression(C=2.0).fit(ROWS, LABELS), tmp_path / "other.skops")
        other = load_estimator(tmp_path / "other.skops").get_extra_state()
        assert not torch.equal(loaded.get_extra_state(), other)

    def test_types_are_listed_and_loaded_only_if_they_are_trusted(self, tmp_path):
        pipeline = make_pipeline(FunctionTransformer(own_step), LogisticRegression()).fit(ROWS, LABELS)
        dump(pipeline, tmp_path / "model.skops")
        name = f"{own_step.__module__}.own_step"
        with pytest.raises(ModelError, match=rf"harmless: {name}\. .*teacher\.trusted"):
            load_estimator(tmp_path / "model.skops")

    def test_pickles_and_damaged_files(self, tmp_path):
        joblib.dump(LogisticRegression(), tmp_path / "model.skops")
        with pytest.raises(ModelError, match=r"pickle or joblib file is not read.*skops\.io\.dump"):
            load_estimator(tmp_path / "model.skops")
        dump(LogisticRegression().fit(ROWS, LABELS), tmp_path / "torn.skops")
        (tmp_path / "torn.skops").write_bytes((tmp_path / "torn.skops").read_bytes()[:-50])
        with pytest.raises(ModelError, match=r"torn\.skops: a file of skops that is not whole"):
            load_estimator(tmp_path / "torn.skops")
        np.savez(tmp_path / "other.npz", a=ROWS)
        with pytest.raises(ModelError, match="skops cannot read it"):
            load_estimator(tmp_path / "other.npz")
        with pytest.raises(ModelError, match="no such file"):
            load_estimator(tmp_path / "none.skops")
