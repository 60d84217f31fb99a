"""``limbeck evaluate``: measure a run's student on its test set again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import ConfigError
from limbeck.evaluation import evaluate_models
from limbeck.models import functions_of, load_model
from limbeck.run.classes import in_order_of_data
from limbeck.run.folder import CONFIG, STUDENT, TEACHER, read_run
from limbeck.run.inputs import load_run_splits
from limbeck.run.teacher import load_or_train_teacher, load_run_teacher


def evaluate(folder: str | Path, *, functions: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Measure a run's student, and its teacher where the run has one, on the test set again.

    A run folder does not decide which code runs: a model that a ``package.module:function`` made is refused unless
    ``functions`` names it.

    Args:
        folder: the folder of a finished run.
        functions: names ``package.module:function`` that may be called, and types of an estimator that may be loaded.

    Returns:
        The test metrics of each model, by its name.

    Raises:
        ConfigError: the folder holds no finished run, its teacher calls a function that ``functions`` does not name, or the
            data are not what the student was trained on.
        DataError: the data cannot be read.
        ModelError: a model cannot be loaded.
    """
    folder = Path(folder)
    config = read_run(folder)
    called = [name for model in config.teacher.models for name in (*functions_of(model), *model.trusted)]
    if unnamed := [name for name in called if name not in functions]:
        raise ConfigError(
            *(f"{folder / CONFIG}: its teacher calls {name}. If you trust it: --function {name}" for name in unnamed)
        )
    splits = load_run_splits(config)
    student = load_model(folder / STUDENT, model=functions)
    models = {"student": in_order_of_data(student, folder / STUDENT, splits, key=str(folder / STUDENT))}
    if (folder / TEACHER).is_dir():
        models = {"teacher": load_run_teacher(folder, splits, functions), **models}
    elif config.teacher.training is None and config.teacher.cache is None:
        models = {"teacher": load_or_train_teacher(config, splits, folder), **models}
    return evaluate_models(models, splits)
