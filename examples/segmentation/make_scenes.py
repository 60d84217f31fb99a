"""Write scenes of handwritten digits with their masks: python make_scenes.py FOLDER

Three to six real digits of scikit-learn (8 x 8, from 0 to 4) stand at random places of a dark, noisy canvas of 32 x 32. A mask
has the value 0 for the background, and 1 to 5 for the pixels of the digits 0 to 4. No digit of the test scenes is in a training
scene.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE, INK = 32, 4
SCENES = {"train": 1000, "validation": 100, "test": 200}
SHARES = {"train": slice(0, 550), "validation": slice(550, 650), "test": slice(650, None)}
"""The digits that the scenes of each split are made of, in a random order."""


def make_scene(digits, labels, random):
    """Return one scene and its mask, both (32, 32) uint8."""
    scene, mask = random.normal(1, 1, (SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    for digit in random.choice(len(digits), random.integers(3, 7), replace=False):
        top, left = random.integers(0, SIDE - 8, 2)
        place, ink = (slice(top, top + 8), slice(left, left + 8)), digits[digit] >= INK
        scene[place] = np.where(ink, digits[digit], scene[place])
        mask[place] = np.where(ink, labels[digit] + 1, mask[place])
    return (scene.clip(0, 16) * 15).astype(np.uint8), mask


def main(folder):
    random = np.random.default_rng(0)
    digits, labels = load_digits(n_class=5, return_X_y=True)
    order = random.permutation(len(digits))
    for split, count in SCENES.items():
        chosen = order[SHARES[split]]
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            scene, mask = make_scene(digits[chosen].reshape(-1, 8, 8), labels[chosen], random)
            Image.fromarray(scene).save(folder / "images" / split / f"{i:04}.png")
            Image.fromarray(mask).save(folder / "masks" / split / f"{i:04}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
