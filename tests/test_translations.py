"""Translated pages are in step with the English ones: the same code, the same links and the same figures."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRANSLATIONS = {
    "README.zh.md": "README.md",
    "docs/tutorials/first-student.zh.md": "docs/tutorials/first-student.md",
}
"""The page that each translation follows."""


def parts(page):
    """Return the blocks of code of a page, and how often it has each link, each figure and each word in code letters."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^    .*$|<!--.*?-->", "", text, flags=re.MULTILINE)
    text = re.sub(
        r"^.*\bEnglish\b.*中文.*$|^.*\[中文\].*$", "", text, flags=re.MULTILINE
    )  # from one language to the other
    links = Counter(link.replace(".zh.md", ".md") for link in re.findall(r"\]\(([^)\s]+)\)", text))
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"November 2026|2026 年 11 月", "", text)
    code = Counter(re.findall(r"`([^`\n]+)`", text))
    figures = Counter(re.findall(r"\d[\d,.]*\d|\d", re.sub(r"`[^`\n]+`", "", text)))
    return blocks, links, code, figures


@pytest.mark.parametrize("translation", TRANSLATIONS)
def test_a_translation_has_the_code_the_links_and_the_figures_of_its_page(translation):
    for name, own, english in zip(
        ("blocks", "links", "code", "figures"), parts(translation), parts(TRANSLATIONS[translation]), strict=True
    ):
        assert own == english, name
