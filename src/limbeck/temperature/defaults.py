"""The default values that several parts of the room share."""

from __future__ import annotations

TEMPERATURES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
"""The temperatures that are analysed, searched and studied by default. Each is about 1.5 times the one before.
Below the lowest one nothing changes: the teacher's targets are hard, and so is the student's softmax."""
TRAINED = (0.25, 1.0, 3.0, 8.0, 20.0)
"""The temperatures at which a search trains students. What lies between them is read from a curve."""
