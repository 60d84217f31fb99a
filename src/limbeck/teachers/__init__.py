"""Where the targets come from."""

from limbeck.teachers.base import Ensemble, LiveTeacher, RememberedTeacher, Teacher, TeacherOutput

__all__ = ["Ensemble", "LiveTeacher", "RememberedTeacher", "Teacher", "TeacherOutput"]
