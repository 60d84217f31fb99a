"""A run's student at work, at T = 1: labels, probabilities, numbers, masks, tags and texts for new inputs.

``loading`` opens a run's folder, ``predictor`` turns inputs into predictions, ``completion`` continues texts, ``calibration``
keeps the scale that makes probabilities fit true labels, for those who ask for it. This room may import ``run`` and the rooms
below it.
"""

from limbeck.inference.loading import load
from limbeck.inference.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor", "load"]
