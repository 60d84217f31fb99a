"""Small tables out of scikit-learn's data, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def wine() -> Any:
    """Return scikit-learn's wines as a ``pandas.DataFrame``, shuffled, with a category, empty cells and named classes."""
    from sklearn.datasets import load_wine

    frame = load_wine(as_frame=True).frame.sample(frac=1, random_state=0, ignore_index=True)
    frame["shade"] = frame.pop("hue").map(lambda hue: "pale" if hue > 1 else "deep" if hue > 0.7 else "dark")
    frame.loc[::10, "shade"] = None
    frame.loc[::7, "ash"] = None
    frame["target"] = frame["target"].map(["Barolo", "Grignolino", "Barbera"].__getitem__)
    return frame


def write_wine(path: Path) -> Path:
    """Write ``wine`` as a CSV file, and return its name."""
    wine().to_csv(path, index=False)
    return path
