"""From a name to training, validation and test examples: ``sources`` reads, ``splits`` keeps the three apart and hides
labels, ``images`` and ``texts`` make batches of what was read, ``examples`` is what comes out, ``inputs`` how a student
is fed."""

from limbeck.data.examples import UNLABELLED, Examples, Splits, as_is
from limbeck.data.images import Augmentation, FixedViews
from limbeck.data.inputs import Inputs
from limbeck.data.sources import SourceOptions
from limbeck.data.splits import hide_labels, load_splits

__all__ = [
    "UNLABELLED",
    "Augmentation",
    "Examples",
    "FixedViews",
    "Inputs",
    "SourceOptions",
    "Splits",
    "as_is",
    "hide_labels",
    "load_splits",
]
