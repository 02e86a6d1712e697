import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vlfau_jax.report import plots
from vlfau_jax.report.curves import MOST_POINTS, Chart, charts, thin
from vlfau_jax.report.plots import line_plot


def records(**series):
    length = max(map(len, series.values()))
    return [
        {"step": 10 * k} | {name: values[k] for name, values in series.items() if k < len(values)}
        for k in range(length)
    ]


def drawn_labels(figure):
    """The labels of the ticks inside the axes, and the power of ten above them."""
    (axes,) = figure.axes
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert 2 <= len(ticks) <= 8
        yield from (tick.label1 for tick in ticks)
        yield axis.get_offset_text()


def test_a_chart_holds_the_finite_points_of_its_keys():
    (chart,) = charts(records(total=[1, math.nan, 3, None, math.inf, 2]))
    assert chart.series == {"total": [(0, 1), (20, 3), (50, 2)]}
    assert "total from 1 at step 0 to 2 at step 50" in chart.description


def test_what_has_no_two_points_is_not_drawn():
    assert charts([]) == []
    assert charts(records(total=[1.0])) == []
    (chart,) = charts(records(au=[1, 2], dice=[1], local=[math.nan, 1]))
    assert list(chart.series) == ["au"]


def test_scores_during_training_are_found_by_their_side():
    found = charts(records(validation_mean_f1=[0.1, 0.2], test_jaccard=[0.3, 0.4], total=[1, 2]))
    assert [(c.title, list(c.series)) for c in found] == [
        ("Loss", ["total"]),
        ("Mean F1", ["validation_mean_f1"]),
        ("Jaccard", ["test_jaccard"]),
    ]
    assert "never trained on" in found[1].unit


def test_thinning_keeps_the_mean():
    points = [(float(k), float(k % 7)) for k in range(1000)]
    thinned = thin(points)
    assert len(thinned) == 250 <= MOST_POINTS
    assert np.mean([y for _, y in thinned]) == pytest.approx(np.mean([y for _, y in points]))


@pytest.mark.parametrize(
    "values",
    [
        (0, 1),
        (0.93, 0.97),
        (-3, 41),
        (5, 5),
        (0, 0),
        (-2, -2),
        (1e-7, 2e-3),
        (1e-12, 3e-12),
        (1e9, 123456789012),
    ],
)
def test_axes_hold_the_points_and_no_label_is_cut_off(values, monkeypatch):
    figures = []
    savefig = plots.svg

    def keep(figure):
        figures.append(figure)
        return savefig(figure)

    monkeypatch.setattr(plots, "svg", keep)
    chart = Chart("t", "", {"a": [(0.0, values[0]), (99999.0, values[1])]})
    plot = line_plot(chart)
    low, high = plot.data["y"]
    assert low <= min(*values, 0) and high >= max(*values, 0) and low < high
    assert plot.light != plot.dark
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        width, height = canvas.get_width_height()
        for text in drawn_labels(figure):
            box = text.get_window_extent(canvas.get_renderer())
            assert box.x0 >= 0 and box.x1 <= width, text.get_text()
            assert box.y0 >= 0 and box.y1 <= height, text.get_text()


def test_a_plot_is_the_same_every_time():
    chart = Chart("t", "", {"a": [(0.0, 1.0), (1.0, 2.0)], "b$x$": [(0.0, 2.0), (1.0, 1.0)]})
    assert line_plot(chart) == line_plot(chart)


def test_points_of_one_step_are_no_curve():
    assert charts([{"step": 1, "total": 1.0}, {"step": 1, "total": 2.0}]) == []


@pytest.mark.parametrize(
    "values", [[1e39, -1e39], [1e39] * 700, [5e-324, 1e-323], [-1e39, 0.0, 1e39], [0.0, -0.0]]
)
def test_every_number_that_a_line_of_metrics_can_hold_is_drawn(values):
    (chart,) = charts(records(total=values))
    data = line_plot(chart).data
    assert all(math.isfinite(value) for value in (*data["x"], *data["y"]))
