"""The teacher's outputs on the disk: computed once, and read back faster than they can be computed.

This room may import ``teachers``, ``data``, ``models``, ``losses`` and the single files ``atomic_files`` and ``errors``.
"""

from limbeck.store.building import BuildResult, build_store
from limbeck.store.codec_base import Codec
from limbeck.store.codecs import CODECS, Dense, Hidden
from limbeck.store.config import CacheConfig
from limbeck.store.quality import FormatQuality, measure_format
from limbeck.store.reading import TeacherStore, is_store
from limbeck.store.sparse_codecs import Sampled, TopK
from limbeck.store.stored_teacher import StoredTeacher
from limbeck.store.verifying import verify

__all__ = [
    "CODECS",
    "BuildResult",
    "CacheConfig",
    "Codec",
    "Dense",
    "FormatQuality",
    "Hidden",
    "Sampled",
    "StoredTeacher",
    "TeacherStore",
    "TopK",
    "build_store",
    "is_store",
    "measure_format",
    "verify",
]
