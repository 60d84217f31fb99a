"""Fitted estimators of scikit-learn as models: a batch goes in, and the logarithms of their probabilities come out.

Of a regressor it is the predicted numbers.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.models.probabilities import logits_of_probabilities
from limbeck.outputs.classes import listed

ZIP = b"PK\x03\x04"
"""The first bytes of a file that ``skops.io.dump`` wrote."""


def is_estimator(source: object) -> bool:
    """Return True if an object is an estimator in the way of scikit-learn.

    Args:
        source: anything. A module is none, whatever methods it has.
    """
    has_methods = hasattr(source, "fit") and (hasattr(source, "predict") or hasattr(source, "predict_proba"))
    return has_methods and not isinstance(source, nn.Module | type)


class EstimatorModel(nn.Module):
    """A model that gives logits, made from a fitted classifier with ``predict_proba``; or numbers, made from a regressor.

    It has no weights that can be trained, and its estimator stays on the CPU. The estimator is given the rows that the
    student is given, each as F numbers in float64: the images or rows of a batch after normalisation. For a table it is
    given the named columns that it was fitted on, with their own numbers and categories.

    Args:
        estimator: a fitted estimator or pipeline of scikit-learn, or of a package with its methods. It is not copied.
        digest: the digest of the file that it was read from, by which a store knows its teacher; by default that of the object.
        table: for the rows of a table, a function from (N, F) to a ``pandas.DataFrame`` of the columns as they were read,
            such as ``TableFormat.rows``. The estimator must then have been fitted on named columns of that table.

    Raises:
        ArgumentError: it is not fitted; it was fitted on named columns without ``table``, or on rows without names with it;
            or it is a classifier that gives no probabilities or has several outputs.

    Example:
        >>> from sklearn.naive_bayes import GaussianNB
        >>> model = EstimatorModel(GaussianNB().fit([[0.0], [1.0], [3.0], [4.0]], ["low", "low", "high", "high"]))
        >>> model.class_names
        ('high', 'low')
        >>> model(torch.tensor([[0.5]])).argmax(-1)
        tensor([1])
    """

    def __init__(
        self, estimator: Any, digest: bytes | None = None, table: Callable[[Tensor], Any] | None = None
    ) -> None:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        super().__init__()
        self.name = type(estimator).__name__
        self.is_regressor = _predicts_numbers(estimator)
        self.class_names: tuple[str, ...] | None = None
        if self.is_regressor:
            try:
                check_is_fitted(estimator)
            except NotFittedError:
                raise ArgumentError("teacher", f"this {self.name} is not fitted. Call its fit first.") from None
        else:
            self.class_names = self._classes_of(estimator)
        names = getattr(estimator, "feature_names_in_", None)
        if names is not None and table is None:
            raise ArgumentError(
                "teacher",
                f"this {self.name} was fitted on named columns ({listed(list(names))}), and a batch has rows of numbers "
                "without names. Fit it on the same rows as an array, as in fit(table.to_numpy(), labels).",
            )
        if names is None and table is not None:
            raise ArgumentError(
                "teacher",
                f"this {self.name} was fitted on rows without column names, so which number is which column of the table is "
                "not known. Fit it, or the pipeline it is a part of, on the pandas.DataFrame of the same columns.",
            )
        self._names = [] if names is None else list(names)
        self._table = table
        self.estimator, self._digest = estimator, digest

    def _classes_of(self, estimator: Any) -> tuple[str, ...]:
        """Return the names of the classes of a classifier, after checking that it gives a probability for each."""
        if not hasattr(estimator, "predict_proba"):
            raise ArgumentError(
                "teacher",
                f"{self.name} has no predict_proba, and a teacher needs a probability for each class. Fit it inside of "
                "sklearn.calibration.CalibratedClassifierCV, or take another classifier.",
            )
        if not hasattr(estimator, "classes_"):
            raise ArgumentError("teacher", f"this {self.name} is not fitted (it has no classes_). Call its fit first.")
        if isinstance(estimator.classes_, list):
            raise ArgumentError(
                "teacher", f"this {self.name} has {len(estimator.classes_)} outputs. Fit one estimator on one of them."
            )
        return tuple(str(name) for name in estimator.classes_)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self._rows(inputs.detach().cpu())
        method = "predict" if self.is_regressor else "predict_proba"
        try:
            found = torch.as_tensor(np.asarray(getattr(self.estimator, method)(rows)))
        except Exception as error:  # what an estimator raises depends on its steps
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"{self.name}.{method} fails on an array {tuple(rows.shape)} of numbers: {reason}"
            ) from error
        logits = found.reshape(len(inputs), -1) if self.is_regressor else logits_of_probabilities(found)
        return logits.float().to(inputs.device)

    def _rows(self, inputs: Tensor) -> Any:
        """Return the rows of a batch as the estimator knows them: named columns, or float64 numbers."""
        if self._table is not None:
            frame = self._table(inputs)
            if missing := [name for name in self._names if name not in frame]:
                raise ModelError(
                    f"{self.name} was fitted on the column {missing[0]!r}, which is no input of the data: they are "
                    f"{listed(list(frame))}."
                )
            return frame[self._names]
        rows = inputs.reshape(len(inputs), -1)
        expected = getattr(self.estimator, "n_features_in_", rows.shape[1])
        if rows.shape[1] != expected:
            raise ModelError(
                f"{self.name} was fitted on rows of {expected} numbers, and the batch has {rows.shape[1]} for each example. "
                "Fit it on the rows that the student is given."
            )
        return rows.double().numpy()

    def get_extra_state(self) -> Tensor:
        """Return a digest of the estimator, by which a store knows its teacher."""
        import joblib

        digest = self._digest or bytes.fromhex(str(joblib.hash(self.estimator)))
        return torch.tensor(list(digest), dtype=torch.uint8)


def _predicts_numbers(estimator: Any) -> bool:
    """Return True for a regressor; False for a classifier, and for an object that does not say what it is."""
    from sklearn.base import is_regressor

    try:
        return not hasattr(estimator, "predict_proba") and is_regressor(estimator)
    except AttributeError:  # of another package, without the tags of scikit-learn
        return False


def load_estimator(
    path: str | Path, trusted: Collection[str] = (), table: Callable[[Tensor], Any] | None = None
) -> EstimatorModel:
    """Load an estimator of scikit-learn from a file that ``skops.io.dump`` wrote. No pickle is read.

    Args:
        path: the file.
        trusted: the types beyond those of scikit-learn and NumPy that may be loaded, as ``package.Class``. Loading may call
            code of them.
        table: as for ``EstimatorModel``.

    Returns:
        The estimator as a model that gives logits.

    Raises:
        ModelError: there is no such file, it is a pickle or is damaged, or it has types that are not trusted.
        ArgumentError: it holds something that cannot be a teacher.
    """
    from skops import io

    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected one that skops.io.dump wrote.")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                raise ModelError(f"{path}: a file of skops that is not whole. Copy or write it again.")
        raise ModelError(
            f"{path}: not a file of skops. A pickle or joblib file is not read, since reading one can run any code. Write the "
            "estimator with skops.io.dump(estimator, 'model.skops') where it was fitted."
        )
    try:
        unknown = [name for name in io.get_untrusted_types(file=path) if name not in trusted]
        if unknown:
            raise ModelError(
                f"{path}: has types that skops does not know to be harmless: {', '.join(unknown)}. If you trust them, name "
                "each of them: trusted=[...] in load_estimator, teacher.trusted in a config."
            )
        estimator = io.load(path, trusted=list(trusted))
    except ModelError:
        raise
    except Exception as error:  # skops raises whatever it meets in a damaged file
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"{path}: skops cannot read it ({type(error).__name__}: {reason}).") from error
    return EstimatorModel(estimator, hashlib.sha256(path.read_bytes()).digest(), table)
