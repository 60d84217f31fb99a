"""``limbeck evaluate``: measure a run's student on its test set again."""

from __future__ import annotations

from pathlib import Path

from limbeck.data import load_splits
from limbeck.evaluation import evaluate_models
from limbeck.models import load_model
from limbeck.run.folder import STUDENT, TEACHER, read_run
from limbeck.run.teacher import load_or_train_teacher, load_run_teacher


def evaluate(folder: str | Path) -> dict[str, dict[str, float]]:
    """Measure a run's student, and its teacher where the run has one, on the test set again.

    Args:
        folder: the folder of a finished run.

    Returns:
        The test metrics of each model, by its name.

    Raises:
        ConfigError: the folder holds no finished run.
        DataError: the data cannot be read.
        ModelError: a model cannot be loaded.
    """
    folder = Path(folder)
    config = read_run(folder)
    splits = load_splits(config.data, seed=config.seed)
    models = {"student": load_model(folder / STUDENT)}
    if (folder / TEACHER).is_dir():
        models = {"teacher": load_run_teacher(folder, splits), **models}
    elif config.teacher.training is None and config.teacher.cache is None:
        models = {"teacher": load_or_train_teacher(config, splits, folder), **models}
    return evaluate_models(models, splits)
