"""How good is the temperature that the search picks, compared with the full grid?

    python -m experiments.regret --work FOLDER [--out experiments/results/regret.json]

This runs the search on every combination of the grid, whose students ``experiments.grid`` has trained, and prints one
line for each. With --out it writes the table as JSON. The regret is the test accuracy of the best constant temperature
of the grid, minus that of the chosen one, both as means over five seeds. The standard error beside it is that of the
best one's mean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.combinations import GRID, SEEDS, TEMPERATURES, Studies

from limbeck.temperature import Choice, SearchPlan, Trial, search


def objective_of(trial: Trial) -> dict[str, Any]:
    """Return the settings of a trial as ``Studies.run`` takes them."""
    return {"alpha": 0.0} if trial.alpha == 0 else {"temperature": trial.temperature}


def search_for(studies: Studies, name: str, plan: SearchPlan) -> Choice:
    """Return what the search picks for a combination, by validation accuracy alone."""

    def train(trial: Trial) -> float:
        return studies.run(name, seed=trial.seed, **objective_of(trial))["validation"]

    return search(train, plan)


def grid_test_accuracies(studies: Studies, name: str) -> dict[float, np.ndarray]:
    """Return the test accuracies in % of all seeds, by temperature; the key 0 stands for no teacher."""
    arms = {0.0: {"alpha": 0.0}, **{t: {"temperature": t} for t in TEMPERATURES}}
    return {
        t: np.array([100 * studies.run(name, seed=seed, **arm)["test"] for seed in range(SEEDS)])
        for t, arm in arms.items()
    }


def compare_with_grid(table: Mapping[float, np.ndarray], temperature: float) -> dict[str, float]:
    """Return how one temperature does against the best one of the grid."""
    means = {t: float(values.mean()) for t, values in table.items() if t > 0}
    best = max(means, key=lambda t: means[t])
    error = float(table[best].std(ddof=1) / len(table[best]) ** 0.5)
    regret = means[best] - means[temperature]
    return {
        "best": best, "best_accuracy": means[best], "accuracy": means[temperature], "regret": regret, "error": error,
        "alone": float(table[0.0].mean()), "within": regret <= error,
    }  # fmt: skip


def main() -> None:
    """Search on every combination, print each comparison with the grid, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where runs, teachers and stores are kept")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    studies, plan, rows = Studies(arguments.work), SearchPlan(), []
    for name in GRID:
        choice, table = search_for(studies, name, plan), grid_test_accuracies(studies, name)
        row = {
            "combination": name, "chosen": choice.temperature, "interval": choice.interval, "worthwhile": choice.worthwhile,
            "cost": choice.cost / (len(TEMPERATURES) * SEEDS), "gain_on_validation": 100 * choice.gain,
            "gain_error": 100 * choice.gain_error, **compare_with_grid(table, choice.temperature),
            "four": compare_with_grid(table, 4.0)["regret"], "one": compare_with_grid(table, 1.0)["regret"],
            "test": {f"{t:g}": [round(float(x), 3) for x in values] for t, values in table.items()},
        }  # fmt: skip
        rows.append(row)
        print(
            f"{name:32} chosen {row['chosen']:>4g} {row['accuracy']:.2f}  best {row['best']:>4g} {row['best_accuracy']:.2f} "
            f"± {row['error']:.2f}  regret {row['regret']:.2f}  T=4: {row['four']:.2f}  T=1: {row['one']:.2f}  alone "
            f"{row['alone']:.2f}  cost {row['cost']:.3f}",
            flush=True,
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"command": "python -m experiments.regret", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
