"""README and docs: their Python runs, their commands run (with ``-m slow``), and their figures are those that were measured."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.config import load_config
from limbeck.losses import DIVERGENCES
from limbeck.models import DataShape, ModelConfig, build_model, save_model
from support.texts import write_models, write_reviews

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
from benchmarks import report  # noqa: E402
from experiments import report as studies  # noqa: E402
from experiments.collect import ARMS  # noqa: E402

import readme_picture  # noqa: E402

# Translations have the same code (tests/test_translations.py).
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if not p.name.endswith(".zh.md"))]
LIBRARIES = ("lightning", "sentence_transformers", "timm")
"""The libraries of recipes that need not be installed."""


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_readme_has_code_to_run():
    assert blocks(PAGES[0], "python")
    assert blocks(PAGES[0], "bash")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """Run the blocks of a page one after the other, in one namespace, in a folder that has the files they name."""
    monkeypatch.chdir(tmp_path)
    for library in LIBRARIES:
        if re.search(rf"^(import|from) {library}\b", page.read_text(encoding="utf-8"), re.MULTILINE):
            pytest.importorskip(library)
    shape, spec = DataShape(10, (1, 8, 8)), ModelConfig("mlp", {"hidden": [64]})
    save_model(build_model(spec, shape), tmp_path / "runs" / "demo" / "student", spec, shape)
    if "models/teacher" in page.read_text(encoding="utf-8"):
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
        write_models(tmp_path / "models", teacher=32, student=8)
        write_reviews(tmp_path / "reviews.csv")
    registered, namespace = dict(DIVERGENCES), {"__name__": "__main__"}
    try:
        for block in blocks(page, "python"):
            exec(compile(block, page.name, "exec"), namespace)
    finally:  # a page registers a divergence of its own
        DIVERGENCES.clear()
        DIVERGENCES.update(registered)


def test_the_figures_are_those_that_were_measured():
    """Compare each page with what ``python -m benchmarks.report`` writes."""
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        assert "<!-- measured:" in text
        assert report.filled(text) == text


def test_the_studies_are_those_that_were_run():
    """Compare the page with what ``python -m experiments.report`` writes; every arm must have five seeds."""
    text = studies.PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- measured:") == len(studies.TABLES)
    assert studies.filled_page(text) == text
    whole = [arm for arm in json.loads(ARMS.read_text(encoding="utf-8")) if arm["share"] == 1]
    assert {len(seeds) for arm in whole for seeds in arm["found"].values()} == {5}


def test_the_picture_shows_the_studies_that_were_run():
    """Compare the picture with what ``python docs/readme_picture.py`` draws."""
    assert readme_picture.PATH.read_text(encoding="utf-8") == readme_picture.draw()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_config(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in re.findall(r"model: (runs/\S+)", path.read_text()):  # the script beside the config writes it
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "config.json").write_text('{"model_type": "bert"}')
    assert load_config(path).out.startswith("runs/")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "bash")], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, tmp_path):
    """Run each command of Limbeck itself. ``make`` and ``pip`` are left out, because CI begins with them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            command = shlex.split(line, comments=True)
            if command and command[0] == "limbeck":
                run = subprocess.run(
                    [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
                )
                assert run.returncode == 0, f"{line}\n{run.stderr[-2000:]}"
