"""What an output column of a model means: a class by its name, or a token by its id.

This is the only room where class names or vocabularies are compared. Data, models, stores and runs carry its objects. It
imports ``limbeck.errors`` alone.
"""

from limbeck.outputs.classes import ClassNames, align_classes, is_generic, one_line, specialist_columns
from limbeck.outputs.vocabularies import Vocabulary, align_vocabularies, check_inputs, fingerprint_of_tokens

__all__ = [
    "ClassNames",
    "Vocabulary",
    "align_classes",
    "align_vocabularies",
    "check_inputs",
    "fingerprint_of_tokens",
    "is_generic",
    "one_line",
    "specialist_columns",
]
