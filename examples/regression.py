"""Teach a small network the numbers of a forest: the progression of diabetes a year after ten measurements.

The forest has learned from 270 patients. The network knows 30 of them; the others are there without their label.

    python examples/regression.py
"""

import subprocess
import sys
from pathlib import Path

from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from skops import io

from limbeck.data import DataConfig, load_splits

CONFIG = """\
task: regression  # the column holds whole numbers, which would be taken for classes
data: {name: FOLDER/train.csv, test: FOLDER/test.csv, labelled: 30}
teacher: {sklearn: FOLDER/forest.skops, trusted: [sklearn.tree._tree.Tree]}
student: {model: mlp, settings: {hidden: [16]}}
distillation: {alpha: 0.9}
training: {max_steps: 200, per_device_train_batch_size: 16, learning_rate: 5e-3}
compare: {seeds: 5}
"""


def main(folder: Path = Path("runs/regression")) -> None:
    """Write the tables and the forest into a folder, and compare the students.

    Args:
        folder: where to write. The run is its folder ``run``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    patients = load_diabetes(as_frame=True, scaled=False).frame.sample(frac=1, random_state=0)
    patients[:300].to_csv(folder / "train.csv", index=False)
    patients[300:].to_csv(folder / "test.csv", index=False)
    # The forest learns from the rows that Limbeck trains on, and not from those that it keeps for validation.
    data = DataConfig(str(folder / "train.csv"), test=str(folder / "test.csv"))
    known = patients[:300].iloc[load_splits(data, task="regression").train.ids.numpy()]
    forest = RandomForestRegressor(300, min_samples_leaf=3, random_state=0)
    forest.fit(known.drop(columns="target"), known["target"])
    io.dump(forest, folder / "forest.skops")
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)))
    subprocess.run([sys.executable, "-m", "limbeck", "compare", config, "--out", folder / "run"], check=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
