"""Keep what the runs of a work folder found, arm by arm, in experiments/results/arms.json.

python -m experiments.collect --work FOLDER
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
KEPT = ("validation", "test", "before", "after", "all_before", "all_after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    arms: dict[str, dict[str, Any]] = {}
    for line in read_lines(parser.parse_args().work / "runs.jsonl"):
        what = {key: value for key, value in line.items() if key not in ("seed", "found")}
        arm = arms.setdefault(json.dumps(what, sort_keys=True), {**what, "found": {}})
        for key in KEPT:
            if key in line["found"]:
                arm["found"].setdefault(key, {})[str(line["seed"])] = round(line["found"][key], 5)
    RESULTS.mkdir(exist_ok=True)
    rows = [json.dumps(arm, sort_keys=True) for _, arm in sorted(arms.items())]
    ARMS.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    print(f"{len(rows)} arms, {sum(len(next(iter(arm['found'].values()))) for arm in arms.values())} students")


class Arms:
    """The kept runs, found by what they were."""

    def __init__(self) -> None:
        self._arms = {self._key(arm): arm["found"] for arm in json.loads(ARMS.read_text(encoding="utf-8"))}

    def __call__(self, combination: str, measure: str = "test", *, share: float = 1.0, **objective: Any) -> np.ndarray:
        """In %, one number for each seed."""
        found = self._arms[self._key({"combination": combination, "share": share, **objective})][measure]
        return np.array([100 * found[seed] for seed in sorted(found, key=int)])

    @staticmethod
    def _key(arm: dict[str, Any]) -> str:
        return json.dumps({key: value for key, value in arm.items() if key != "found"}, sort_keys=True)


def shown(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """Mean and standard error."""
    x = np.asarray(values)
    return f"{x.mean():.{digits}f} ± {x.std(ddof=1) / len(x) ** 0.5:.{digits}f}"


if __name__ == "__main__":
    main()
