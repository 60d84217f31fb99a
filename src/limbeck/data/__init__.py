"""Data sets: from a name to training, validation and test examples that come in batches.

This room may import ``limbeck.models`` and the top-level modules (``errors``, ``atomic_files``, ``field_checks``). Its files:
``config`` says which data set and how to read it, ``sources``, ``hugging_face`` and ``table_files`` read it, ``splits`` keeps
the three sets apart and hides labels, ``images``, ``masks``, ``texts``, ``words`` and ``tables`` make batches,
``image_columns`` and ``table_columns`` read columns of a data set, ``labels``, ``tags`` and ``numbers`` read what models
should say, ``groups`` and ``unlabelled`` say what belongs together and what comes after the training examples, ``examples``
holds the result, ``preprocessing`` turns new inputs into a batch.
``language`` reads documents for a language model, ``documents`` tokenises them, ``token_rows`` packs or pads them,
``masked_tokens`` masks some of their tokens, and ``token_pairs`` has texts with a source.
"""

from limbeck.data.config import DataConfig
from limbeck.data.examples import IGNORE_INDEX, Examples, HasSourceBytes, LoadRows, Splits, TensorRows, identity_collate
from limbeck.data.images import Augmentation, FixedViews, ImageFormat
from limbeck.data.masked_tokens import MaskedTokens
from limbeck.data.number_format import NumberFormat
from limbeck.data.preprocessing import Preprocessing
from limbeck.data.splits import hide_labels, load_splits
from limbeck.data.tables import TableFormat
from limbeck.data.texts import Texts, load_tokenizer
from limbeck.data.token_pairs import TokenPairs
from limbeck.data.token_rows import PaddedTokens, TokenBlocks

__all__ = [
    "IGNORE_INDEX",
    "Augmentation",
    "DataConfig",
    "Examples",
    "FixedViews",
    "HasSourceBytes",
    "ImageFormat",
    "LoadRows",
    "MaskedTokens",
    "NumberFormat",
    "PaddedTokens",
    "Preprocessing",
    "Splits",
    "TableFormat",
    "TensorRows",
    "Texts",
    "TokenBlocks",
    "TokenPairs",
    "hide_labels",
    "identity_collate",
    "load_splits",
    "load_tokenizer",
]
