"""What did the studies' students reach, one line for each arm?

    python -m experiments.collect --work FOLDER

An arm is a combination with one objective; its students differ by their seed. This reads FOLDER/runs.jsonl, which the
studies wrote, and writes experiments/results/arms.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.atomic_files import read_lines

RESULTS = Path(__file__).parent / "results"
ARMS = RESULTS / "arms.json"
KEPT_MEASURES = ("validation", "test", "before", "after", "all_before", "all_after")


def main() -> None:
    """Write the results of all runs, grouped by arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="the folder of the studies' runs")
    arms: dict[str, dict[str, Any]] = {}
    for line in read_lines(parser.parse_args().work / "runs.jsonl"):
        settings = {key: value for key, value in line.items() if key not in ("seed", "found")}
        arm = arms.setdefault(json.dumps(settings, sort_keys=True), {**settings, "found": {}})
        for key in KEPT_MEASURES:
            if key in line["found"]:
                arm["found"].setdefault(key, {})[str(line["seed"])] = round(line["found"][key], 5)
    RESULTS.mkdir(exist_ok=True)
    rows = [json.dumps(arm, sort_keys=True) for _, arm in sorted(arms.items())]
    ARMS.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    print(f"{len(rows)} arms, {sum(len(next(iter(arm['found'].values()))) for arm in arms.values())} students")


class Arms:
    """The results in arms.json, looked up by the settings of an arm."""

    def __init__(self) -> None:
        self._arms = {self._key(arm): arm["found"] for arm in json.loads(ARMS.read_text(encoding="utf-8"))}

    def __call__(self, combination: str, measure: str = "test", *, share: float = 1.0, **objective: Any) -> np.ndarray:
        """Return one measure of an arm in %, one number for each seed.

        Args:
            combination: a key of ``experiments.combinations.COMBINATIONS``.
            measure: one of ``KEPT_MEASURES``.
            share: the fraction of the combination's steps that the students were trained for.
            **objective: the settings of the distillation that are not the default.

        Raises:
            KeyError: the arm was not trained.
        """
        found = self._arms[self._key({"combination": combination, "share": share, **objective})][measure]
        return np.array([100 * found[seed] for seed in sorted(found, key=int)])

    @staticmethod
    def _key(arm: dict[str, Any]) -> str:
        return json.dumps({key: value for key, value in arm.items() if key != "found"}, sort_keys=True)


def mean_and_error(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """Return the mean of some values and its standard error, as text."""
    x = np.asarray(values)
    return f"{x.mean():.{digits}f} ± {x.std(ddof=1) / len(x) ** 0.5:.{digits}f}"


if __name__ == "__main__":
    main()
