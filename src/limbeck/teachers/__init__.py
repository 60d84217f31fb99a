"""The teachers: every source of targets that a student can learn from, except the store on disk.

This room may import ``limbeck.models``, ``limbeck.losses`` and ``limbeck.errors``.
"""

from limbeck.teachers.base import Teacher, TeacherOutput
from limbeck.teachers.ensemble import Ensemble, EnsembleModel
from limbeck.teachers.in_memory import InMemoryTeacher
from limbeck.teachers.live import LiveTeacher, OnnxTeacher, TeacherLike, as_teacher

__all__ = [
    "Ensemble",
    "EnsembleModel",
    "InMemoryTeacher",
    "LiveTeacher",
    "OnnxTeacher",
    "Teacher",
    "TeacherLike",
    "TeacherOutput",
    "as_teacher",
]
