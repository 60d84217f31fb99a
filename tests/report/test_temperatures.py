"""The tables and figures about T show the search's and the analysis's numbers."""

import pytest
import torch

from limbeck.report import analysis_table, search_figure, search_table, temperatures
from limbeck.temperature.analysis import analyze

T = [1.0, 4.0, 16.0]


@pytest.fixture(scope="module")
def analysis():
    logits = 4 * torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    views = logits + torch.randn(4, 60, 6, generator=torch.Generator().manual_seed(1))
    return analyze(logits, views=views, temperatures=T)


def lines(figure):
    return {line.get_label(): line.get_ydata() for axes in figure.axes for line in axes.lines}


def test_the_table_of_a_search(choice):
    header, *rows = search_table(choice)
    assert header == ("T", "behind the best, points", "students, accuracy, %")
    assert [float(row[0]) for row in rows] == list(choice.curve.temperatures)
    shown = {float(row[0]): row[2].split() for row in rows}
    trained = [trial for trial, _ in choice.trials if trial.alpha is None]
    assert sum(map(len, shown.values())) == len(trained)
    assert shown[3.0][0] == "88.6"  # as the fixture's students are at T = 3
    assert any(row[1].startswith("0.00 ±") for row in rows)


def test_the_figure_of_a_search(choice):
    found = lines(search_figure(choice))
    assert set(found) == {"fit", "without a teacher", f"chosen: {choice.temperature:g}"}
    assert found["without a teacher"] == pytest.approx([70, 70])
    points = search_figure(choice).axes[0].collections[-1].get_offsets()
    plain = [(trial.temperature, 100 * quality.value) for trial, quality in choice.trials if trial.alpha is None]
    assert sorted(map(tuple, points.tolist())) == [pytest.approx(point) for point in sorted(plain)]


def test_the_table_of_an_analysis(analysis):
    header, *rows = analysis_table(analysis)
    assert len(rows) == 3
    assert all(len(row) == len(header) for row in rows)
    assert [row[0] for row in rows] == ["1", "4", "16"]
    assert [float(row[header.index("classes")]) for row in rows] == pytest.approx(
        [row.effective_classes for row in analysis.softness], abs=0.005
    )


def test_the_figures_of_an_analysis(analysis):
    rows = analysis.softness
    (classes,) = lines(temperatures.softness_figure(rows)).values()
    assert list(classes) == [row.effective_classes for row in rows]
    strength = lines(temperatures.gradient_strength_figure(rows))
    assert list(strength["with T²"]) == pytest.approx(
        [t**2 * value for t, value in zip(T, strength["without"], strict=True)]
    )
    direction = lines(temperatures.gradient_direction_figure(rows))
    assert (direction["the lowest half of them"] < direction["all negative labels"]).all()


def test_the_reliability_of_ranks(analysis):
    figure = temperatures.reliability_figure(analysis.ranks)
    gap, agreement = figure.axes
    assert gap.lines[0].get_ydata().tolist() == [-rank.gap for rank in analysis.ranks]
    assert [bar.get_height() for bar in agreement.patches] == [100 * rank.agreement for rank in analysis.ranks]
    assert len(temperatures.reliability_figure(analysis.ranks * 20).axes[0].lines[0].get_ydata()) == 40
