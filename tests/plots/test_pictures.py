"""Pictures of a monitor: what they show is what was measured, and can be read."""

import itertools
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from support.boards import FINDING, RECORD

from keras_winit import ActivationMonitor, plots
from keras_winit.monitor.records import Record

NAN, INF = float("nan"), float("inf")
STATISTICS = ("unit_stddev", "dead_share", "saturated_share", "nonfinite")
VARIABLE_STATISTICS = (
    "weight_norm",
    "gradient_norm",
    "update_norm",
    "update_ratio",
    "gradient_nonfinite",
)
# Of four bins, the second around zero.
EDGES = np.array([-1.0, -1e-4, 1e-4, 1.0, 100.0])


def sample(step, signal, **columns):
    """Layers net/h0, net/h1, ... with a kernel and a bias each; `columns` by statistic."""
    count = len(signal)
    named = {"unit_stddev": signal, "dead_share": 0.25, "saturated_share": NAN, "nonfinite": 0}
    named |= {"weight_norm": 2, "gradient_norm": 1, "update_norm": 2e-3, "update_ratio": 1e-3}
    named |= {"gradient_nonfinite": 0} | columns
    layers = tuple(f"net/h{place}" for place in range(count))

    def table(names):
        return np.stack([np.broadcast_to(named[name], count) for name in names], 1).astype(
            "float32"
        )

    kernels = table(VARIABLE_STATISTICS)
    biases = np.full_like(kernels, 7)
    return Record(
        step=step,
        layers=layers,
        statistics=STATISTICS,
        values=table(STATISTICS),
        variables=tuple(f"{name}/{end}" for name in layers for end in ("kernel", "bias")),
        variable_statistics=VARIABLE_STATISTICS,
        variable_values=np.stack([kernels, biases], 1).reshape(2 * count, kernels.shape[1]),
        edges=EDGES,
        counts=np.tile(np.array([0, 90, 9, 0], "float32"), (count, 1)),
        loss=0.5,
    )


def run(depth, steps=(0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100000)):
    """A net whose signal and gradient fade with depth."""
    fading = np.logspace(0, -3, depth)
    return [sample(step, fading, gradient_norm=fading[::-1]) for step in steps]


def finding(layer, severity="error", consequences=()):
    return {**FINDING, "layer": layer, "severity": severity, "consequences": consequences}


def shown(picture, place=0):
    """The numbers of a map and which cells are black."""
    numbers, *black = (image.get_array() for image in picture.axes[place].images)
    return numbers, ~np.ma.getmaskarray(black[0]) if black else np.zeros(numbers.shape, bool)


def test_the_signal_is_shown_over_the_first_layers():
    samples = [sample(0, [0.8, 0.4, 0.08]), sample(5, [0.8, 8, 0])]
    numbers, black = shown(plots.health(samples))
    expected = np.log10(np.array([[0.8, 0.8], [0.4, 8], [0.08, 1]]) / 0.8)
    np.testing.assert_allclose(numbers[:2], expected[:2], atol=1e-6)
    np.testing.assert_allclose(numbers[2, 0], -1, atol=1e-6)
    # Nothing at all has the deepest color.
    assert numbers[2, 1] < -2
    assert not np.ma.getmaskarray(numbers).any()
    assert not black.any()


@pytest.mark.parametrize(
    ("first", "reference"), [(50, 1.3), (1e-5, 0.07), (0, 0.07), (NAN, 1.3), (0.5, 0.5)]
)
def test_a_first_layer_that_is_far_off_is_no_measure(first, reference):
    numbers, _ = shown(plots.health([sample(0, [first, 0.65])]))
    np.testing.assert_allclose(numbers[1, 0], np.log10(0.65 / reference), atol=1e-6)


def test_the_measure_is_the_first_layer_with_a_kernel():
    one = sample(0, [0.1, 0.5, 1])
    numbers, _ = shown(plots.health([replace(one, variables=("x/kernel", *one.variables[1:]))]))
    np.testing.assert_allclose(numbers[:, 0], np.log10([0.2, 1, 2]), atol=1e-6)


def test_the_last_layer_is_shown_before_its_activation():
    one = sample(0, [1, 0.01, 2])
    renamed = replace(one, layers=("net/h0", "net/out", "net/out.pre"))
    numbers, _ = shown(plots.health([renamed]))
    np.testing.assert_allclose(numbers[:, 0], np.log10([1, 2]), atol=1e-6)


def test_gradients_are_shown_over_the_median_and_updates_over_the_guide():
    one = sample(0, [1] * 4, gradient_norm=[1, 10, 100, 0], update_ratio=[1e-3, 1e-2, 1e-4, 1e-3])
    # Another loss scale, and a layer that stands still while others move.
    still = {"update_norm": [2, 2, 2, 0], "update_ratio": [1, 1, 1, NAN]}
    two = sample(1, [1] * 4, gradient_norm=[7, 70, 700, NAN], **still)
    # Gradients are being collected: nothing moves.
    three = sample(2, [1] * 4, update_norm=0, update_ratio=NAN)
    picture = plots.health([one, two, three])
    gradient, _ = shown(picture, 1)
    np.testing.assert_allclose(gradient[:3, :2], [[-1, -1], [0, 0], [1, 1]], atol=1e-6)
    assert gradient[3, 0] < -2
    assert np.ma.getmaskarray(gradient)[3].tolist() == [False, True, False]
    update, _ = shown(picture, 2)
    np.testing.assert_allclose(update[:, 0], [0, 1, -1, 0], atol=1e-6)
    assert update[3, 1] < -2
    assert np.ma.getmaskarray(update)[:, 2].all()
    assert [axes.images[0].get_clim() for axes in picture.axes[:4]] == [(-2, 2)] * 3 + [(0, 1)]


def test_black_is_what_is_not_finite_and_gray_what_does_not_apply():
    broken = {"nonfinite": [0, 3, 5], "dead_share": [0.5, NAN, NAN]}
    one = sample(
        0, [1, 1, NAN], gradient_norm=[INF, NAN, NAN], gradient_nonfinite=[0, 0, 4], **broken
    )
    picture = plots.health([one])
    signal, gradient, _, dead = (shown(picture, place) for place in range(4))
    assert signal[1][:, 0].tolist() == [False, True, True]
    assert gradient[1][:, 0].tolist() == [True, False, True]
    assert np.ma.getmaskarray(gradient[0])[:, 0].tolist() == [True, True, True]
    assert dead[1][:, 0].tolist() == [False, True, True]
    words = [text.get_text() for text in picture.legends[0].get_texts()]
    assert words == ["NaN or infinite", "does not apply"]
    # Black and gray are seen, not only meant.
    pixels = drawn(picture)
    for place, row, color in ((0, 2, 0), (1, 1, 224), (1, 2, 0)):
        axes = picture.axes[place]
        x, y = axes.transData.transform((-0.3, row + 0.3))
        near = pixels[round(len(pixels) - y) - 3 :, round(x) :][:7, :7]
        assert np.median(near, axis=(0, 1)).tolist() == [color] * 3
    # Without the count of non-finite entries, a spread that is none tells.
    one = replace(one, statistics=("unit_stddev", "dead_share", "x", "y"))
    assert shown(plots.health([one]))[1][:, 0].tolist() == [False, False, True]


def drawn(picture):
    """The pixels, from the top, on a canvas whose renderer can be asked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(picture).draw()
    return np.asarray(picture.canvas.buffer_rgba())[:, :, :3]


def test_one_nan_among_many_steps_is_seen():
    samples = [sample(step, [1, 1]) for step in range(1000)]
    samples[501] = sample(501, [1, NAN], nonfinite=[0, 9])
    samples[700] = sample(700, [1e-3, 1])
    numbers, black = shown(plots.health(samples))
    assert black.shape == numbers.shape == (2, 250)
    assert np.argwhere(black).tolist() == [[1, 501 // 4]]
    assert np.argwhere(numbers < -2).tolist() == [[0, 700 // 4]]


def ticks(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize(("depth", "apart"), [(10, 1), (50, 1), (60, 2), (200, 4)])
@pytest.mark.parametrize("kind", ["health", "profile", "layers"])
def test_layers_are_labeled_in_the_order_of_execution(kind, depth, apart):
    axes = getattr(plots, kind)(run(depth)).axes[0]
    assert ticks(axes) == [f"h{place}" for place in range(0, depth, apart)]
    assert axes.get_yticks().tolist() == list(range(0, depth, apart))
    assert axes.get_ylim() == (depth - 0.5, -0.5)


def test_layers_with_findings_are_marked():
    inner = finding("net/h101", "warning")
    findings = [finding("net/h7", "info"), finding("net/h53", "error", [inner])]
    axes = plots.health(run(200), findings=findings).axes[0]
    marked = {
        label.get_text(): label.get_color()
        for label in axes.get_yticklabels()
        if label.get_fontweight() == "bold"
    }
    assert marked == {"h7": "#636363", "h53": "#b2182b", "h101": "#d95f02"}
    assert [line.get_marker() for line in axes.lines] == ["X", "^", "o"]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[53], [101], [7]]
    # Beside the map, not on it.
    left = axes.transAxes.transform((0, 0))[0]
    assert all(line.get_transform().transform((0, 0))[0] < left - 5 for line in axes.lines)


def test_names_are_shortened_at_their_beginning():
    names = ["net/" + "x" * 40 + "/end", "net/$a_b$", "net/a\nb"]
    one = replace(sample(0, [1, 1, 1]), layers=tuple(names))
    picture = plots.health([one])
    assert ticks(picture.axes[0]) == ["…" + "x" * 23 + "/end", "$a_b$", "a b"]
    drawn(picture)


def boxes(texts, renderer):
    found = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    return [box for box in found if box.width and box.height]


WIDE = [(kind, {}) for kind in ("health", "profile", "layers", "updates", "strips")]
SMALL = [(kind, {"small": True}) for kind in ("health", "strips")]


@pytest.mark.parametrize("depth", [10, 50, 200])
@pytest.mark.parametrize(("kind", "options"), WIDE + SMALL)
def test_no_label_lies_on_another(kind, options, depth):
    findings = [finding(f"net/h{place}") for place in range(3, depth, 5)]
    picture = getattr(plots, kind)(run(depth), findings=findings, **options)
    drawn(picture)
    renderer = picture.canvas.get_renderer()
    titles = [axes.title for axes in picture.axes] + [axes._left_title for axes in picture.axes]
    texts = titles + [text for legend in picture.legends for text in legend.get_texts()]
    texts += [picture._suptitle] if picture._suptitle else []
    for axes in picture.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts.append(axis.label)
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high and tick.label1.get_visible():
                    texts.append(tick.label1)
    found = boxes([text for text in texts if text.get_visible()], renderer)
    assert len(found) > 5
    overlaps = [
        pair
        for pair in itertools.combinations(found, 2)
        if pair[0].shrunk(0.9, 0.8).overlaps(pair[1])
    ]
    assert overlaps == []
    width, height = picture.canvas.get_width_height()
    assert all(box.x0 > -1 and box.x1 < width + 1 for box in found)
    assert all(box.y0 > -1 and box.y1 < height + 1 for box in found)


def numbered(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


@pytest.mark.parametrize(
    "spreads",
    [(0.31, 0.85), (0.62, 0.65), (1, 1), (0.2, 3), (0.05, 12), (1e-12, 1), (3e-6, 4e-6)],
    ids=str,
)
def test_whatever_an_axis_spans_it_has_numbers(spreads):
    picture = plots.layers([sample(0, spreads), sample(1, spreads)])
    drawn(picture)
    axis = picture.axes[0].xaxis
    ticks, renderer = numbered(axis), picture.canvas.get_renderer()
    assert 2 <= len(ticks) <= 8
    labels = [tick.label1 for tick in ticks]
    if spreads[0] < spreads[1] < 100 * spreads[0]:
        texts = [label.get_text().replace("\N{MINUS SIGN}", "-") for label in labels]
        np.testing.assert_allclose(list(map(float, texts)), [tick.get_loc() for tick in ticks])
    found = boxes(labels, renderer)
    assert len(found) == len(ticks)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(found, 2))


def bands(axes):
    return [
        tuple(np.round(patch.get_extents().transformed(axes.transData.inverted()).intervalx, 6))
        for patch in axes.patches
    ]


def test_the_profile_stands_beside_the_healthy_range():
    values = {"gradient_norm": [4, 2, 0.02], "dead_share": [0.1, 0.385, 0.4]}
    picture = plots.profile([sample(0, [0.5, 1.4, 0.02], **values), sample(1, [9, 9, 9])])
    signal, gradient, dead = picture.axes
    assert bands(signal) == [(0.032, 1.3)]
    assert bands(gradient) == [(0.008, 1)]
    assert bands(dead) == [(0, 0.385)]
    np.testing.assert_allclose(signal.lines[0].get_xdata(), [0.5, 1.4, 0.02])
    np.testing.assert_allclose(gradient.lines[0].get_xdata(), [1, 0.5, 0.005])
    crosses = [axes.lines[-1].get_ydata().tolist() for axes in (signal, gradient, dead)]
    assert crosses == [[1, 2], [2], [2]]
    assert picture.get_suptitle() == "3 layers at step 0: 4 values outside the healthy range"
    one = plots.profile([sample(0, [0.5, 0.5, 0.02])])
    assert one.get_suptitle() == "3 layers at step 0: 1 value outside the healthy range"


def test_a_profile_of_nothing_and_of_too_much():
    one = sample(0, [1, 0, NAN], nonfinite=[0, 0, 8], gradient_norm=[1, INF, NAN])
    signal, gradient, _ = plots.profile([one]).axes
    assert signal.lines[-1].get_ydata().tolist() == [1, 2]
    low, high = signal.get_xlim()
    assert signal.lines[-1].get_xdata().tolist() == [low, high]
    assert gradient.lines[-1].get_ydata().tolist() == [1]
    healthy = plots.profile([sample(0, [1, 0.5])])
    assert healthy.get_suptitle() == "2 layers at step 0: all healthy"
    assert [len(axes.lines) for axes in healthy.axes] == [2, 2, 2]


def test_updates_stand_beside_the_guide():
    ratios = np.array([[1e-3, 2e-3], [1e-2, NAN], [NAN, 5e-4]])
    samples = [sample(step, [1] * 3, update_ratio=ratios[:, step]) for step in (0, 1)]
    picture = plots.updates(samples, findings=[finding("net/h1")])
    (axes,) = picture.axes
    guide, *lines = axes.lines
    assert set(guide.get_ydata()) == {1e-3}
    np.testing.assert_allclose([line.get_ydata() for line in lines], ratios)
    (band,) = axes.patches
    extent = band.get_extents().transformed(axes.transData.inverted())
    np.testing.assert_allclose(extent.intervaly, [3.7e-5, 6.4e-2])
    texts = picture.legends[0].get_texts()
    words = [text.get_text().strip() for text in texts]
    assert words == ["healthy training", "guide, 0.001", "h0/kernel", "h1/kernel", "h2/kernel"]
    assert [text.get_color() for text in texts[2:]] == ["black", "#b2182b", "black"]


def test_many_updates_are_drawn_as_a_range():
    ratios = np.logspace(-6, -1, 41)
    samples = [sample(step, [1] * 41, update_ratio=ratios * (step + 1)) for step in (0, 1)]
    picture = plots.updates(samples)
    (axes,) = picture.axes
    _, median, largest, smallest = axes.lines
    np.testing.assert_allclose(median.get_ydata(), [10**-3.5, 2 * 10**-3.5], rtol=1e-5)
    np.testing.assert_allclose(largest.get_ydata(), [0.1, 0.2], rtol=1e-5)
    np.testing.assert_allclose(smallest.get_ydata(), [1e-6, 2e-6], rtol=1e-5)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [1e-6, 0.2], rtol=1e-5)
    words = [text.get_text() for text in picture.legends[0].get_texts()]
    assert words[-2:] == ["largest: h40/kernel", "smallest: h0/kernel"]


def test_strips_show_the_histogram_of_each_layer():
    first, last = sample(0, [1, 1]), sample(7, [1, 1])
    first.counts[0] = [1, 0, 0, 0]
    last.counts[:] = [[0, 999, 1, 0], [0, 0, 0, 0]]
    picture = plots.strips([first, replace(first, step=5, counts=np.zeros((2, 0))), last])
    one, two, *_ = picture.axes
    # The last bin is empty everywhere, and cut off.
    share = np.array([[[1, 0], [0, 0.999], [0, 0.001]], [[0, 0], [90 / 99, 0], [9 / 99, 0]]])
    for place, expected in enumerate(share):
        assert picture.axes[place].get_ylim() == (-0.5, 2.5)
        numbers, black = shown(picture, place)
        np.testing.assert_allclose(numbers.filled(0), np.log1p(1000 * expected), rtol=1e-6)
        assert black.tolist() == [[False, place == 1]] * 3
    assert one.get_title(loc="left") == "h0"
    assert ticks(one) == ["-1", "-0.01", "0", "0.01", "1"]
    # At the ends of bins, and in the middle of the one around zero.
    np.testing.assert_allclose(one.get_yticks(), [-0.5, 0.49, 1, 1.51, 2.5], atol=0.01)
    assert [label.get_text() for label in two.get_xticklabels()] == ["0", "7"]
    assert picture.get_suptitle() == "Values in 2 layers, steps 0 to 7"


def test_of_many_layers_some_strips_are_drawn():
    findings = [finding("net/h7"), finding("net/h8", "info")]
    picture = plots.strips(run(200, (0, 1)), findings=findings, small=True)
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    # Downwards first.
    assert titles[:5] == ["h7", "h136", "h68", "h170", "h102"]
    assert picture.axes[0]._left_title.get_color() == "#b2182b"


KINDS = {
    "layers": "`unit_stddev`",
    "health": "`unit_stddev` or `gradient_norm` or `update_ratio` or `dead_share` or "
    "`saturated_share`",
    "strips": "`histogram`",
    "profile": "`unit_stddev` or `gradient_norm` or `dead_share` or `saturated_share`",
    "updates": "`update_ratio`",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, tmp_path):
    monitor = ActivationMonitor()
    none = replace(RECORD, counts=np.zeros((4, 0)), edges=np.zeros(0))
    unasked = replace(none, statistics=("a", "b", "c"), variable_statistics=("d", "e"))
    for samples, why in (
        ([], "."),
        ([unasked], " without. Ask for them with `ActivationMonitor(statistics=...)`."),
        ([sample(0, [])], " without layers. Choose some with `ActivationMonitor(layers=...)`."),
    ):
        monitor.history.records = samples
        message = (
            f"`plots.{kind}(samples=...)` needs samples with {KINDS[kind]}. "
            f"Received: {len(samples)} samples{why}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            monitor.plot(kind=kind)
    monitor.history.records = run(3)
    picture = monitor.plot(tmp_path / "out.png", kind)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert type(picture).__name__ == "Figure"


def test_pictures_of_nothing_but_nan():
    message = (
        "`plots.layers(samples=...)` needs samples with `unit_stddev`. "
        "Received: 1 samples in which none of them is a number."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        plots.layers([sample(0, [NAN, NAN])])


def test_points_can_be_seen_on_a_dark_ground():
    with matplotlib.rc_context({"text.color": "white"}):
        profile, ratios = plots.profile(run(3)), plots.updates(run(3))
    points = next(line for line in profile.axes[0].lines if line.get_marker() == "o")
    guide = next(line for line in ratios.axes[0].lines if line.get_linestyle() == "--")
    assert points.get_color() == guide.get_color() == "white"


def test_no_such_kind():
    message = (
        "`ActivationMonitor.plot(kind=...)` must be one of layers, health, strips, profile, "
        "updates. Received: kind='pie'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ActivationMonitor().plot(kind="pie")
