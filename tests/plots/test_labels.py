"""Labels of all pictures: in order, marked by findings, and not on top of each other."""

import itertools
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from support.pictures import fading_run, finding, record, render, tick_labels

from keras_winit import plots
from keras_winit.monitor.diagnosis.findings import Finding
from keras_winit.monitor.diagnosis.rules.base import SEVERITIES
from keras_winit.plots.findings import MARKS, worst_severities


@pytest.mark.parametrize(("depth", "distance"), [(10, 1), (50, 1), (60, 2), (200, 4)])
@pytest.mark.parametrize("kind", ["health", "profile", "layers"])
def test_layers_are_labeled_in_the_order_of_execution(kind, depth, distance):
    axes = getattr(plots, kind)(fading_run(depth)).axes[0]
    assert tick_labels(axes) == [f"h{place}" for place in range(0, depth, distance)]
    assert axes.get_yticks().tolist() == list(range(0, depth, distance))
    assert axes.get_ylim() == (depth - 0.5, -0.5)


def test_layers_with_findings_are_marked():
    consequence = finding("net/h101", "warning")
    findings = [finding("net/h7", "info"), finding("net/h53", "error", [consequence])]
    axes = plots.health(fading_run(200), findings=findings).axes[0]
    marked = {
        label.get_text(): label.get_color()
        for label in axes.get_yticklabels()
        if label.get_fontweight() == "bold"
    }
    assert marked == {"h7": "#636363", "h53": "#b2182b", "h101": "#d95f02"}
    assert [line.get_marker() for line in axes.lines] == ["X", "^", "o"]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[53], [101], [7]]
    # The marks stand left of the map, not on it.
    left = axes.transAxes.transform((0, 0))[0]
    assert all(line.get_transform().transform((0, 0))[0] < left - 5 for line in axes.lines)


def test_every_severity_has_a_mark():
    assert [*reversed(MARKS)] == [*SEVERITIES]


def test_findings_may_be_objects_or_mappings():
    numbers = {"step": 1, "value": 0.0, "threshold": 1.0, "first_step": 0, "hits": 1}
    words = {"rule": "x", "healthy_range": "", "cause": "", "remedy": ""}
    inner = Finding(layer="b", severity="warning", **numbers, **words)
    outer = Finding(layer="a", severity="info", consequences=(inner,), **numbers, **words)
    again = Finding(layer="a", severity="error", **numbers, **words)
    expected = {"a": "error", "b": "warning"}
    assert worst_severities([outer, again]) == expected
    assert worst_severities([outer.as_dict(), again.as_dict()]) == expected


def test_long_names_are_shortened_at_their_beginning():
    names = ["net/" + "x" * 40 + "/end", "net/$a_b$", "net/a\nb"]
    picture = plots.health([replace(record(0, [1, 1, 1]), layers=tuple(names))])
    assert tick_labels(picture.axes[0]) == ["…" + "x" * 23 + "/end", "$a_b$", "a b"]
    render(picture)


def boxes(texts, renderer):
    extents = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    return [box for box in extents if box.width and box.height]


def visible_ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def texts_of(picture):
    """Return all titles, axis labels, tick labels and legend texts."""
    texts = [axes.title for axes in picture.axes] + [axes._left_title for axes in picture.axes]
    texts += [text for legend in picture.legends for text in legend.get_texts()]
    texts += [picture._suptitle] if picture._suptitle else []
    for axes in picture.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [tick.label1 for tick in visible_ticks(axis)]
            texts += [axis.label, *(label for label in labels if label.get_visible())]
    return texts


WIDE = [(kind, {}) for kind in ("health", "profile", "layers", "updates", "strips")]
SMALL = [(kind, {"small": True}) for kind in ("health", "strips")]


@pytest.mark.parametrize("depth", [10, 50, 200])
@pytest.mark.parametrize(("kind", "options"), WIDE + SMALL)
def test_texts_do_not_overlap_and_lie_within_the_picture(kind, options, depth):
    findings = [finding(f"net/h{place}") for place in range(3, depth, 5)]
    picture = getattr(plots, kind)(fading_run(depth), findings=findings, **options)
    render(picture)
    visible = [text for text in texts_of(picture) if text.get_visible()]
    extents = boxes(visible, picture.canvas.get_renderer())
    assert len(extents) > 5
    overlaps = [
        pair
        for pair in itertools.combinations(extents, 2)
        if pair[0].shrunk(0.9, 0.8).overlaps(pair[1])
    ]
    assert overlaps == []
    width, height = picture.canvas.get_width_height()
    assert all(box.x0 > -1 and box.x1 < width + 1 for box in extents)
    assert all(box.y0 > -1 and box.y1 < height + 1 for box in extents)


@pytest.mark.parametrize(
    "spreads",
    [(0.31, 0.85), (0.62, 0.65), (1, 1), (0.2, 3), (0.05, 12), (1e-12, 1), (3e-6, 4e-6)],
    ids=str,
)
def test_a_log_axis_of_any_span_has_a_few_numbers(spreads):
    picture = plots.layers([record(0, spreads), record(1, spreads)])
    render(picture)
    ticks = visible_ticks(picture.axes[0].xaxis)
    assert 2 <= len(ticks) <= 8
    labels = [tick.label1 for tick in ticks]
    if spreads[0] < spreads[1] < 100 * spreads[0]:
        texts = [label.get_text().replace("\N{MINUS SIGN}", "-") for label in labels]
        np.testing.assert_allclose(list(map(float, texts)), [tick.get_loc() for tick in ticks])
    extents = boxes(labels, picture.canvas.get_renderer())
    assert len(extents) == len(ticks)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(extents, 2))


def test_points_and_lines_are_visible_in_a_dark_style():
    with matplotlib.rc_context({"text.color": "white"}):
        profile, updates = plots.profile(fading_run(3)), plots.updates(fading_run(3))
    points = next(line for line in profile.axes[0].lines if line.get_marker() == "o")
    dashed = next(line for line in updates.axes[0].lines if line.get_linestyle() == "--")
    assert points.get_color() == dashed.get_color() == "white"
