"""Write images of two digits side by side, out of scikit-learn's real digits, each labelled by the list of the digits in it.

python examples/two_digits/prepare.py
limbeck compare examples/two_digits/two_digits.yaml
"""

from pathlib import Path

import datasets
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

pixels, digits = load_digits(return_X_y=True)
pixels = (pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
rng = np.random.default_rng(0)
# Each of the 1,797 digits is in training images or in test images, never in both.
parts = dict(
    zip(("train", "test"), train_test_split(np.arange(len(digits)), test_size=0.4, random_state=0), strict=True)
)
features = datasets.Features({"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=NAMES))})
splits = {}
for split, count in (("train", 4000), ("test", 1000)):
    rows = {"image": [], "labels": []}
    for left, right in rng.choice(parts[split], (count, 2)):
        rows["image"].append(np.concatenate([pixels[left], pixels[right]], 1))
        rows["labels"].append(sorted({int(digits[left]), int(digits[right])}))
    splits[split] = datasets.Dataset.from_dict(rows, features=features)
folder = Path("runs/two_digits/data")
datasets.DatasetDict(splits).save_to_disk(str(folder))
print(f"{folder}: {len(splits['train'])} images for training, {len(splits['test'])} for the test")
