"""Read an HTML page as a browser would, and refuse one that is not well-formed or that fetches something."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """What a page shows.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.paragraphs: list[str] = []
        self.figures = 0
        self._open: list[str] = []
        self._text = ""
        text = path.read_text(encoding="utf-8")
        self.feed(text)
        self.close()
        assert self._open == []
        assert not re.search(r"<script[^>]*src|\bimport\b *\(|\bfetch\(|XMLHttpRequest", text)
        for target in re.findall(r"""(?<!-)(?:src|href)=["']([^"']*)|url\(([^)]*)\)""", text):
            assert "".join(target).startswith(("#", "data:")), target  # a part of the page itself

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        self.figures += tag == "svg"
        if tag in ("h1", "h2", "p", "td", "th"):
            self._text = ""

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        text = " ".join(self._text.split())
        if tag in ("h1", "h2"):
            self.headings.append(text)
        if tag == "p":
            self.paragraphs.append(text)
        if tag in ("td", "th"):
            self.tables[-1][-1].append(text)

    def handle_data(self, data):
        self._text += data
