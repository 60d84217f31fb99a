"""Fit a random forest on a table of scikit-learn, and write what `limbeck compare` needs: two CSV files and the forest.

python examples/forest/prepare.py wine
limbeck compare examples/forest/wine.yaml
"""

import sys
from pathlib import Path

import sklearn.datasets
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

name = sys.argv[1] if len(sys.argv) > 1 else "wine"
data = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
frame = data.frame.assign(target=data.target_names[data.target])
train, test = train_test_split(frame, test_size=0.4, stratify=frame["target"], random_state=0)
# Five rows in each leaf at least: a fully grown forest is nearly sure of the rows that it was fitted on.
forest = RandomForestClassifier(300, min_samples_leaf=5, random_state=0)
forest.fit(train.drop(columns="target"), train["target"])

folder = Path("runs/forest", name)
folder.mkdir(parents=True, exist_ok=True)
train.to_csv(folder / "train.csv", index=False)
test.to_csv(folder / "test.csv", index=False)
skops.io.dump(forest, folder / "forest.skops")
print(
    f"{folder}: {len(train)} rows for training, {len(test)} for the test; the forest is right on "
    f"{forest.score(test.drop(columns='target'), test['target']):.1%} of the latter"
)
