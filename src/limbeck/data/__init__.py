"""From a name to training, validation and test examples: ``sources`` reads, ``splits`` keeps the three apart and hides
labels, ``images`` and ``texts`` make batches of what was read, ``examples`` is what comes out, ``inputs`` how a student
is fed."""

from limbeck.data.config import DataConfig
from limbeck.data.examples import IGNORE_INDEX, Examples, Splits, identity_collate
from limbeck.data.images import Augmentation, FixedViews
from limbeck.data.preprocessing import Inputs
from limbeck.data.splits import hide_labels, load_splits

__all__ = [
    "IGNORE_INDEX",
    "Augmentation",
    "DataConfig",
    "Examples",
    "FixedViews",
    "Inputs",
    "Splits",
    "hide_labels",
    "identity_collate",
    "load_splits",
]
