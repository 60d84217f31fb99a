"""The pages fit the code and each other: the reference is up to date and complete, links work, the menu has every page."""

import importlib
import re
import sys
import tomllib
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
import make_reference  # noqa: E402

PAGES = sorted(DOCS.rglob("*.md"))
AT_THE_ROOT = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
]
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
PUBLIC_MODULES = (
    "limbeck", "limbeck.losses", "limbeck.teachers", "limbeck.store", "limbeck.temperature", "limbeck.data",
    "limbeck.models", "limbeck.tasks", "limbeck.training",
    "limbeck.check", "limbeck.inference",
)  # fmt: skip


class Inner(BaseModel):
    """An inner section."""

    count: Annotated[int, Field(gt=0)] = 3
    """How many."""


@dataclass(frozen=True)
class Outer:
    """A section that is a dataclass of the library's own."""

    kind: Literal["a", "b"] = "a"
    """Which ``kind``."""
    values: tuple[float, ...] = (0.5, 2.0)
    inner: Inner = field(default_factory=Inner)
    limit: int | None = None
    """A limit,
    over two lines."""


def shown_by(page: Path) -> list[str]:
    """Return the names that mkdocstrings documents on a page."""
    return re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, those in code left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("page", make_reference.pages(), ids=lambda page: page.name)
def test_the_reference_is_up_to_date(page):
    """Compare each page with what ``python docs/make_reference.py`` writes."""
    text = page.read_text(encoding="utf-8")
    assert make_reference.filled(text) == text


def test_every_public_name_is_shown_once():
    """No other name is shown: the kernels, for example, are private."""
    shown = Counter()
    for path in (path for page in PAGES for path in shown_by(page)):
        module, _, name = path.rpartition(".")
        assert module in PUBLIC_MODULES, path
        assert name in importlib.import_module(module).__all__, path
        shown[name, id(getattr(importlib.import_module(module), name))] += 1
    public = {
        (name, id(getattr(importlib.import_module(module), name)))
        for module in PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
        if name != "__version__"
    }
    assert set(shown) == public
    assert set(shown.values()) == {1}


def test_sections_may_be_pydantic_models_or_dataclasses():
    found = [key for section in make_reference.sections(Outer) for key in make_reference.keys(section)]
    assert [(key.path, key.type, key.default, key.meaning) for key in found] == [
        ("kind", "`a`, `b`", "`a`", "Which `kind`."),
        ("values", "list of: number", "`[0.5, 2]`", ""),
        ("limit", "integer, or `null`", "`null`", "A limit, over two lines."),
        ("inner.count", "integer above 0", "`3`", "How many."),
    ]


def test_every_key_of_a_config_is_shown():
    from limbeck.config import config_from

    config = config_from(
        {"teacher": {"model": "cnn"}, "student": {"model": "mlp"}, "data": {"augmentation": {"shift": 1}}}
    )
    text = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")

    def paths(value, path=""):
        for key, inner in value.items():
            whole = f"{path}.{key}" if path else key
            yield whole
            if isinstance(inner, dict):
                yield from paths(inner, whole)

    for path in paths(config.model_dump()):
        assert f"`{path}`" in text, path


def test_every_key_of_a_config_has_a_meaning():
    from limbeck.config import Config

    keys = [key for section in make_reference.sections(Config) for key in make_reference.keys(section)]
    assert [key.path for key in keys if not key.meaning] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page):
    for link in links(page):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.parent == DOCS / "pictures":  # drawn when the site is built
            assert f"def {target.stem}(" in (DOCS / "make_pictures.py").read_text(encoding="utf-8"), link
            continue
        assert target.is_file(), link
        assert target.is_relative_to(DOCS), f"{link}: the site has the pages of docs/ alone"
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [*AT_THE_ROOT, *PAGES], ids=lambda page: page.name)
def test_links_into_the_repository_lead_somewhere(page):
    raw = ADDRESS.replace("github.com", "raw.githubusercontent.com")
    for link in re.findall(
        r"https://(?:raw\.githubusercontent|github)\.com/[^\s)\"]*limbeck[^\s)\"]*", page.read_text("utf-8")
    ):
        assert link.startswith((ADDRESS, raw)), link
        path, _, anchor = re.sub(rf"^({ADDRESS}|{raw})/?(blob/main/|main/)?", "", link).partition("#")
        if path.startswith(("actions/", "issues", "security/", "compare/", "releases/")) or not path:
            continue
        assert (ROOT / path).is_file(), link
        assert not anchor or anchor in anchors(ROOT / path), link


def test_the_readme_has_no_relative_links():
    """A package index shows the README too, and relative links do not work there."""
    assert [link for link in links(ROOT / "README.md") if not link.startswith("http")] == []


def test_no_page_installs_limbeck_from_a_package_index():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]:
        assert not re.search(r"pip install ['\"]?limbeck", page.read_text(encoding="utf-8")), page


def test_the_menu_has_every_page():
    text = re.sub(r"!!python/name:\S+", "null", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def paths(entries):
        for entry in entries:
            (value,) = entry.values()
            yield from paths(value) if isinstance(value, list) else [value]

    listed = list(paths(YAML(typ="safe").load(text)["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_every_decision_is_listed():
    listed = links(DOCS / "decisions" / "index.md")
    assert listed == [page.name for page in sorted((DOCS / "decisions").glob("0*.md"))]


def test_the_version_is_the_same_everywhere():
    from limbeck import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[\w.]*)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert released[0] == (__version__, str(citation["date-released"]))
    assert citation["version"] == __version__
    assert citation["repository-code"] == ADDRESS


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_is_yaml_and_its_actions_are_pinned(path):
    text = path.read_text(encoding="utf-8")
    assert YAML(typ="safe").load(text)
    for action in re.findall(r"uses: (\S+)", text):
        assert action.startswith("./") or re.search(r"@(v\d+|release/v\d+)$", action), action


def test_the_workflow_runs_what_ci_run_runs():
    """Compare the ``make`` targets of all jobs with those of ``.ci/run``."""
    workflow = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    made = {target for run in runs for target in re.findall(r"make (\w+)", run)}
    assert made == set(re.findall(r"^make (\w+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_oldest_versions_are_allowed_and_named():
    """Each dependency is pinned in constraints-oldest.txt to a version that its lower bound allows."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    for text in [*project["dependencies"], *extras["train"], *extras["search"], *extras["report"], *extras["onnx"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(Version(pins[requirement.name])), text
