"""Where the targets come from."""

from limbeck.teachers.base import Ensemble, InMemoryTeacher, LiveTeacher, Teacher, TeacherOutput

__all__ = ["Ensemble", "InMemoryTeacher", "LiveTeacher", "Teacher", "TeacherOutput"]
