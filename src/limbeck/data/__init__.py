"""From a name to training, validation and test examples: ``sources`` reads, ``splits`` keeps the three apart and hides
labels, ``images`` and ``texts`` make batches of what was read, ``examples`` is what comes out."""

from limbeck.data.examples import UNLABELLED, Examples, Splits, as_is
from limbeck.data.images import Augmentation
from limbeck.data.sources import SourceOptions
from limbeck.data.splits import hide_labels, load_splits

__all__ = ["UNLABELLED", "Augmentation", "Examples", "SourceOptions", "Splits", "as_is", "hide_labels", "load_splits"]
