"""From a run's folder to a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.data import Preprocessing
from limbeck.inference.calibration import read_logit_scale
from limbeck.inference.predictor import Predictor
from limbeck.models import load_model
from limbeck.run.folder import STUDENT, read_run


def load(folder: str | Path, *, calibrated: bool = False, functions: Sequence[str] = ()) -> Predictor:
    """Load the student of a finished run, ready for new inputs. It predicts at T = 1.

    A run folder does not decide which code runs: a student that a ``package.module:function`` made is refused unless
    ``functions`` names it.

    Args:
        folder: the folder of a finished run.
        calibrated: multiply the logits by the scale that ``limbeck calibrate`` found. It changes probabilities, and no decision
            of one class among several.
        functions: names ``package.module:function`` that may be called.

    Returns:
        The predictor. Its ``model`` is the student itself, a ``torch.nn.Module`` on the CPU in evaluation mode.

    Raises:
        ConfigError: the folder holds no finished run; or ``calibrated`` is true and it was not calibrated.
        ModelError: the student cannot be loaded.
        DataError: the description of its inputs cannot be read.

    Example:
        predictor = limbeck.load("runs/demo")
        predictor.predict(["three.png"])  # array(['3'], dtype='<U1')
        predictor.predict_proba(["three.png"]).shape  # (1, 10), columns in the order of predictor.classes_
    """
    folder = Path(folder)
    read_run(folder)
    model, read = load_model(folder / STUDENT, model=functions), Preprocessing.load(folder / STUDENT)
    return Predictor(model, read, logit_scale=read_logit_scale(folder, model) if calibrated else 1.0)
