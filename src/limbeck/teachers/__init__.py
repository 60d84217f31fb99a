"""Where the targets come from."""

from limbeck.teachers.base import LiveTeacher, RememberedTeacher, Teacher, TeacherOutput

__all__ = ["LiveTeacher", "RememberedTeacher", "Teacher", "TeacherOutput"]
