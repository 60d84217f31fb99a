"""Figures are written as pictures, and go into a page as SVG."""

import xml.etree.ElementTree as ElementTree

import pytest

from limbeck.report.drawing import figure_as_svg, new_axes, save_figure


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
