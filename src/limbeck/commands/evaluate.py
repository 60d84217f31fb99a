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


def evaluate(
    folder: str | Path, *, functions: Sequence[str] = (), trusted: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Measure a run's student, and its teacher where the run has one with the student's tokens, on the test set again.

    A run folder does not decide which code runs: a model that a ``package.module:function`` made is refused unless
    ``functions`` names it.

    Args:
        folder: the folder of a finished run.
        functions: names ``package.module:function`` that may be called.
        trusted: the types beyond those of scikit-learn and NumPy that the file of an estimator may load.

    Returns:
        The test metrics of each model, by its name.

    Raises:
        ConfigError: the folder holds no finished run, its teacher needs what ``functions`` or ``trusted`` does not name, or
            the data are not what the student was trained on.
        DataError: the data cannot be read.
        ModelError: a model cannot be loaded.
    """
    folder = Path(folder)
    config = read_run(folder)
    models = config.teacher.models
    called = dict.fromkeys(name for model in models for name in functions_of(model) if name not in functions)
    loaded = dict.fromkeys(name for model in models for name in model.trusted if name not in trusted)
    faults = [f"its teacher calls {name}. If you trust it: --function {name}" for name in called]
    faults += [f"its teacher loads the type {name}. If you trust it: --trusted {name}" for name in loaded]
    if faults:
        raise ConfigError(*(f"{folder / CONFIG}: {fault}" for fault in faults))
    splits = load_run_splits(config)
    student = load_model(folder / STUDENT, model=functions)
    models = {"student": in_order_of_data(student, folder / STUDENT, splits, key=str(folder / STUDENT))}
    if (folder / TEACHER).is_dir():
        models = {"teacher": load_run_teacher(folder, splits, functions), **models}
    elif config.teacher.training is None and config.teacher.cache is None and config.distillation.alignment is None:
        models = {"teacher": load_or_train_teacher(config, splits, folder), **models}
    return evaluate_models(models, splits)
