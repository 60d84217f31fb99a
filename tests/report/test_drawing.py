"""Figures are written as pictures, and go into a page as SVG."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limbeck.outputs import one_line
from limbeck.report.drawing import as_drawn, figure_as_svg, new_axes, save_figure


@pytest.fixture
def figure():
    figure, axes = new_axes(3, 2)
    axes.plot([1, 2], [3, 4], label="<b>")
    axes.legend()
    return figure


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_suffix_is_the_format(figure, tmp_path, suffix, begins):
    path = tmp_path / "new" / f"figure.{suffix}"
    save_figure(figure, path)
    assert path.read_bytes().startswith(begins)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_svg_without_a_header(figure):
    svg = figure_as_svg(figure)
    assert svg.startswith("<svg")
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


STRANGE = ["$x^{2$", "a$b$", "<b>&amp;", "|", "_", "a\nb", "\U0001f600", r"\$", " ", "\x0b", "\ud800", "%s {0}"]


@settings(max_examples=4)
@given(names=st.lists(st.text(min_size=1, max_size=12), min_size=10, max_size=20))
@example(names=STRANGE)
def test_any_name_is_drawn_as_it_is(names):
    figure, axes = new_axes(9, 2)
    axes.set_xticks(range(len(names)), [as_drawn(name) for name in names])
    texts = ElementTree.fromstring(figure_as_svg(figure)).iter("{http://www.w3.org/2000/svg}text")
    drawn = [" ".join("".join(text.itertext()).split()) for text in texts]
    assert {" ".join(one_line(name).split()) for name in names} - {""} <= set(drawn)
