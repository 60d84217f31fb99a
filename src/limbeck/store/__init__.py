"""What a teacher said, on the disk: asked once, read back faster than it can be computed.

``codecs`` has a small class for each format; ``shards`` writes and reads one file; ``building`` runs the teacher;
``reading`` looks rows up and finds what is broken; ``heads`` keeps a last layer; ``fingerprints`` names what a store was made
from.
"""

from limbeck.store.building import Built, build_store
from limbeck.store.codecs import CODECS, Codec, Dense, Hidden, Sampled, TopK, codec_from
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.store.reading import StoredTeacher, TeacherStore, is_store, verify

__all__ = [
    "CODECS",
    "Built",
    "Codec",
    "Dense",
    "Hidden",
    "Sampled",
    "StoredTeacher",
    "TeacherStore",
    "TopK",
    "build_store",
    "codec_from",
    "fingerprint_of_examples",
    "fingerprint_of_model",
    "is_store",
    "verify",
]
