"""The tab in a real browser: its maps, its details, its findings and its controls."""

from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pytest
from support.boards import FINDING, at
from support.browser import require

from keras_winit.monitor import TensorBoardWriter
from keras_winit.monitor.output import events

# Width of the names and height of the steps in a heat map, in CSS pixels.
NAMES_WIDTH, STEPS_HEIGHT = 190, 24
STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50)
NAN, INF = float("nan"), float("inf")

# One value and its color for each row. Rectifiers are expected to have 0.07 to 1.3, with 0.75 in
# the middle; other layers 0.07 to 2.2, with 1.25 in the middle. The ends of these ranges are at a
# fifth of the scale, and the ends of the scale a decade further: half of the scale is 3/8 of a
# decade beyond the range.
HALF = 10 ** (3 / 8)
STDDEV = (0.75, 22, 0.007, 2.2 * HALF, 0.07 / HALF, 1e9, 0.0, NAN)
LIGHT = (
    (247, 247, 247),
    (128, 0, 20),
    (5, 48, 97),
    (239, 138, 98),
    (103, 169, 207),
    (128, 0, 20),
    (5, 48, 97),
    (0, 0, 0),
)
LAYERS = ("a", "b/conv", "c", "d", "e", "f", "g", "broken")


def record(step, stddev=STDDEV, layers=LAYERS):
    values = np.full((len(layers), 3), NAN, "float32")
    values[:, 0] = stddev
    values[[0, 2], 1] = 0.5, 0.25
    values[:, 2] = step
    values[6, 2] = -INF
    values[-1] = NAN
    counts = np.ones((len(layers), 4), "float32")
    return replace(at(step), layers=layers, values=values, counts=counts)


def write(path, records, findings=()):
    writer = TensorBoardWriter(path)
    for step_record in records:
        writer.write(step_record)
    if findings:
        writer.write_findings(records[-1].step, findings)
    return writer


@pytest.fixture(scope="module", autouse=True)
def installed():
    plugins = {point.name for point in entry_points(group="tensorboard_plugins")}
    require(
        "keras_winit" in plugins,
        "the package installed, for TensorBoard to find its tab: pip install .",
    )


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs")
    good = np.full(len(LAYERS), 1.25)
    write(path / "good", [record(step, good) for step in STEPS]).close()
    consequences = [{"rule": "saturated", "severity": "warning", "layer": "b/conv", "step": 1}]
    finding = {**FINDING, "layer": "c", "step": 5, "severity": "error", "value": 0.25}
    finding |= {"consequences": consequences}
    about_variable = {**FINDING, "layer": "dense/kernel", "rule": "update_frozen"}
    write(path / "bad", list(map(record, STEPS)), [finding, about_variable]).close()
    return path


@pytest.fixture(scope="module")
def address(log_dir, serve_all):
    return serve_all(log_dir)


class Tab:
    """The tab on a page. Without TensorBoard around it (`alone`), it opens faster."""

    def __init__(self, page, address, alone=False):
        page.goto(f"{address}/" + ("data/plugin_entry.html?name=" * alone or "#") + "keras_winit")
        self.page = page
        self.frame = page if alone else page.frame_locator("iframe")
        self.frame.locator("body[data-ready]").wait_for()
        (self.inside,) = (frame for frame in page.frames if "plugin_entry" in frame.url)

    def choose(self, name, label):
        before = self.inside.evaluate("document.body.dataset.ready")
        self.frame.get_by_label(name, exact=True).select_option(label=label)
        self.frame.locator(f"body:not([data-ready='{before}'])").wait_for()

    def place(self, row, column, map=0):
        """Return the canvas of a map and the middle of a cell on it."""
        canvas = self.frame.locator(".map > canvas").nth(map)
        box = canvas.bounding_box()
        steps = len(STEPS)
        height = (box["height"] - STEPS_HEIGHT) / len(LAYERS)
        return (
            canvas,
            NAMES_WIDTH + (box["width"] - NAMES_WIDTH) * (column + 0.5) / steps,
            height * (row + 0.5),
        )

    def color(self, row, column, map=0):
        canvas, x, y = self.place(row, column, map)
        pixel = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]"
        *rgb, alpha = canvas.evaluate(pixel, [int(x), int(y)])
        return tuple(rgb) if alpha == 255 else None

    def click(self, row, column, map=0):
        canvas, x, y = self.place(row, column, map)
        canvas.click(position={"x": x, "y": y})

    def text(self, selector):
        return self.frame.locator(selector).inner_text()

    def wait(self, selector, text):
        self.frame.locator(selector).filter(has_text=text).first.wait_for()


@pytest.fixture(scope="module")
def opened(shared_page, address):
    return Tab(shared_page, address, alone=True)


@pytest.fixture
def tab(opened):
    """The tab with the standard deviations of the bad run."""
    opened.inside.goto(opened.inside.url)
    opened.frame.locator("body[data-ready]").wait_for()
    opened.choose("Statistic", "stddev")
    return opened


@pytest.mark.parametrize("loader", ["fast", "python"])
def test_the_colors_are_those_of_the_data(loader, log_dir, address, serve, page):
    tab = Tab(page, address if loader == "fast" else serve(log_dir, "--load_fast=false"))
    tab.choose("Statistic", "stddev")
    assert tab.text("#status") == "10 recorded steps, the last is step 50"
    for column in (1, 4, 8):
        for row, expected in enumerate(LIGHT):
            shown = tab.color(row, column)
            assert np.abs(np.subtract(shown, expected)).max() <= 2, (row, column)
    tab.choose("Range", "± 2 decades")
    # 22 is one of two decades above the range, at 0.6 of the scale: a fifth of the way from half to
    # its end.
    assert np.abs(np.subtract(tab.color(1, 4), (217, 110, 82))).max() <= 2
    tab.choose("Relative to", "each row's first value")
    assert [tab.color(row, 4) for row in (1, 7)] == [LIGHT[0], LIGHT[7]]


def test_a_statistic_that_does_not_apply_has_no_color(tab):
    tab.choose("Statistic", "dead_share")
    # The rows have a share of 0.5, a layer to which the share does not apply, and no number. Up to
    # 0.385 is expected, so 0.5 is at 0.35 of the scale: 0.7 of the way to the color of half.
    assert np.abs(np.subtract(tab.color(0, 4), (241, 171, 143))).max() <= 2
    assert tab.color(3, 4) not in LIGHT
    assert tab.color(7, 4) == (0, 0, 0)
    tab.click(3, 4)
    tab.wait("#readout", "d, step 5: dead_share does not apply")


def test_infinities_have_the_color_of_nan(tab):
    tab.choose("Statistic", "minimum")
    assert tab.color(0, 0) == (247, 247, 247)
    assert tab.color(0, 9) == (128, 0, 20)
    assert tab.color(6, 4) == (0, 0, 0)


def test_a_click_opens_the_layer(tab):
    tab.click(1, 4)
    tab.wait("#curve h2", "b/conv")
    assert tab.text("#readout") == "b/conv, step 5: stddev 22, expected: 0.07 to 2.2"
    figures = tab.frame.locator("#detail figure")
    figures.nth(1).wait_for()
    # The figures of the previous row stay until the new ones are loaded.
    figures.nth(2).wait_for(state="detached")
    assert [text.strip() for text in figures.all_inner_texts()] == ["stddev", "minimum (log)"]
    charts = [chart.get_attribute("aria-label") for chart in figures.locator("canvas").all()]
    assert charts[1] == "minimum: 0 at step 0, 50 at step 50, between 0 and 50"
    strip = tab.frame.get_by_role("img", name="Histograms of b/conv over 10 steps")
    assert strip.bounding_box()["width"] > 200


def test_the_keyboard_moves_through_layers_and_steps(tab):
    map = tab.frame.get_by_role("listbox")
    map.focus()
    keys = "Home Control+Home Control+End ArrowDown ArrowDown ArrowUp ArrowLeft ArrowLeft"
    for key in keys.split():
        map.press(key)
    tab.wait("#readout", "b/conv, step 20: stddev 22")
    option = tab.frame.locator("[role=option][aria-selected=true]")
    assert option.text_content() == "b/conv, step 20: stddev 22, expected: 0.07 to 2.2"
    assert map.get_attribute("aria-activedescendant") == option.get_attribute("id")
    map.press("End")
    tab.wait("#curve h2", "broken")
    assert tab.text("#readout") == "broken, step 20: stddev NaN, expected: 0.07 to 2.2"
    map.press("Control+Home")
    tab.wait("#readout", "broken, step 0:")
    map.press("s")
    tab.wait("#readout", "broken, step 0: dead_share")
    map.press("f")
    tab.wait("#readout", "c, step 5: dead_share 0.25")
    map.press("f")
    tab.wait("#readout", "dense/kernel, step 1: update_ratio")
    # The map keeps the focus, and says which keys it knows.
    assert tab.inside.evaluate("document.activeElement.getAttribute('role')") == "listbox"
    assert map.get_attribute("aria-describedby") == "keys"
    assert "the next finding" in tab.text("#keys")


def test_controls_and_regions_have_names(tab):
    for name in ("Run", "Compare with", "Rows", "Statistic", "Relative to", "Range"):
        assert tab.frame.get_by_role("combobox", name=name, exact=True).count() == 1
    for name in ("Findings", "Selected row", "All statistics of the selected row", "Heat maps"):
        assert tab.frame.get_by_role("region", name=name, exact=True).count() == 1
    assert tab.frame.locator("#status").get_attribute("role") == "status"
    assert tab.inside.evaluate("document.documentElement.lang") == "en"


def test_findings_are_readable_and_select_their_layer(tab):
    finding, variable_finding = tab.frame.locator("#findings ol > li").all()
    assert finding.inner_text().replace("\n\n", "\n").split("\n") == [
        "✖ error dead_units c",
        "step 5, first at step 0, at 3 recorded steps, "
        "value 0.25, threshold 0.5, healthy 0 to 0.385",
        "<b>no</b> positive | output",
        "Remedy: he_normal",
        "1 consequence",
    ]
    finding.get_by_role("button", name="c").click()
    tab.wait("#curve h2", "c")
    tab.wait("#readout", "c, step 5: dead_share 0.25, expected: 0 to 0.385")
    variable_finding.get_by_role("button", name="dense/kernel").click()
    tab.wait("#curve h2", "dense/kernel")
    assert tab.frame.get_by_label("Rows").input_value() == "variables"
    assert tab.frame.get_by_label("Statistic", exact=True).input_value() == "update_ratio"
    finding.locator("summary").click()
    assert finding.locator("details li").all_inner_texts() == ["saturated b/conv"]
    finding.get_by_role("button", name="b/conv").click()
    tab.wait("#curve h2", "b/conv")


def test_two_runs_side_by_side(tab):
    tab.choose("Compare with", "good/winit")
    assert tab.frame.locator(".pane h2").all_inner_texts() == ["bad/winit", "good/winit"]
    assert tab.color(1, 4, map=0) == LIGHT[1]
    assert tab.color(1, 4, map=1) == LIGHT[0]
    tab.click(1, 4, map=1)
    tab.wait("#curve h2", "b/conv")
    assert tab.text("#readout") == (
        "bad/winit: b/conv, step 5: stddev 22, expected: 0.07 to 2.2; "
        "good/winit: b/conv, step 5: stddev 1.25, expected: 0.07 to 2.2"
    )
    assert tab.frame.locator("#detail .key span").all_inner_texts() == ["bad/winit", "good/winit"]
    assert tab.frame.locator("#findings h3").all_inner_texts() == ["bad/winit", "good/winit"]
    assert "No findings so far." in tab.text("#findings")


def test_layers_with_other_names_are_compared_by_their_index(tmp_path, serve, page):
    write(tmp_path / "one", [record(step) for step in STEPS]).close()
    layers = tuple(f"{name}_1" for name in LAYERS)
    write(tmp_path / "two", [record(step, STDDEV[::-1], layers) for step in STEPS]).close()
    tab = Tab(page, serve(tmp_path), alone=True)
    tab.choose("Run", "one/winit")
    tab.choose("Compare with", "two/winit")
    tab.click(2, 4, map=1)
    tab.wait("#curve h2", "c_1")
    assert tab.text("#readout") == (
        "one/winit: c, step 5: stddev 0.007, expected: 0.07 to 1.3; "
        "two/winit: c_1, step 5: stddev 1.00e+9, expected: 0.07 to 1.3"
    )
    assert tab.frame.locator("#detail .key span").count() == 2


def test_variables(tab):
    tab.choose("Rows", "variables")
    options = tab.frame.get_by_label("Statistic", exact=True).locator("option").all_inner_texts()
    assert options == ["gradient_norm", "update_ratio"]
    tab.choose("Statistic", "update_ratio")
    assert tab.text("#readout") == (
        "block/conv/kernel, step 5: update_ratio 0.001, expected: 3.70e-5 to 0.064"
    )


def test_dark_mode(tab):
    tab.page.evaluate("document.body.classList.add('dark-mode')")
    tab.frame.locator("body.dark").wait_for()
    assert tab.color(0, 4) == (48, 48, 48)
    assert tab.color(7, 4) == (255, 255, 255)
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.inside.evaluate(background) == "rgb(30, 30, 30)"
    tab.page.evaluate("document.body.classList.remove('dark-mode')")
    tab.frame.locator("body:not(.dark)").wait_for()
    assert tab.color(0, 4) == LIGHT[0]


def test_updates_arrive_while_a_run_writes(tmp_path, serve, page):
    writer = write(tmp_path, [record(0), record(1)])
    tab = Tab(page, serve(tmp_path, "--reload_interval=1"))
    tab.wait("#status", "2 recorded steps, the last is step 1")
    writer.write(record(2))
    writer.write_findings(2, [FINDING])
    tab.wait("#status", "3 recorded steps, the last is step 2")
    tab.wait("#findings", "dead_units")
    writer.close()


HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\">",
    "\u202edrowkcab \u5c42 \U0001f4a5",
    "x" * 3000,
    "same",
    "same",
    "'\"&amp;\n\t",
    "__proto__",
    "broken",
)


def test_hostile_names_are_shown_harmlessly(tmp_path, serve, page):
    findings = [{**FINDING, "layer": name, "rule": name, "cause": name} for name in HOSTILE]
    write(tmp_path / HOSTILE[0].replace("/", "_"), [record(0, layers=HOSTILE)], findings).close()
    tab = Tab(page, serve(tmp_path), alone=True)
    options = tab.frame.get_by_role("option").all()
    listed = [option.text_content() for option in options if option.get_attribute("id")]
    assert [text.partition(", step 0:")[0] for text in listed] == list(HOSTILE)
    for row, name in enumerate(HOSTILE):
        tab.frame.get_by_role("listbox").press("ArrowDown" if row else "Home")
        heading = name if row != 4 else "same (2)"
        tab.inside.wait_for_function(
            "name => document.querySelector('#curve h2').textContent === name", arg=heading
        )
        # A name that is written from right to left does not change the text after it.
        isolated = f"\u2068{name}\u2069" if row == 1 else name
        readout = tab.frame.locator("#readout").text_content()
        assert readout.partition(", step 0:")[0] == isolated
    assert tab.frame.locator("img, script:not([type])").count() == 0
    assert tab.inside.evaluate("document.title") == "Winit"
    width = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    content, window = tab.inside.evaluate(width)
    assert content <= window


def test_one_infinity_among_many_steps_is_seen(tmp_path, serve, page):
    steps = 1500
    writer = TensorBoardWriter(tmp_path, curves=(), variable_curves=())
    for step in range(steps):
        without_histograms = replace(record(step), counts=np.zeros((8, 0), "float32"))
        if step == 700:
            without_histograms.values[1, 0] = INF
        writer.write(without_histograms)
    writer.close()
    tab = Tab(page, serve(tmp_path), alone=True)
    tab.wait("#status", "1500 recorded steps, the last is step 1499")
    canvas, _, y = tab.place(1, 0)
    width = canvas.bounding_box()["width"]
    line = "(canvas, [width, y]) => [...canvas.getContext('2d').getImageData(0, y, width, 1).data]"
    pixels = np.reshape(canvas.evaluate(line, [int(width), int(y)]), (-1, 4))[NAMES_WIDTH:]
    (dark,) = np.nonzero((pixels == [0, 0, 0, 255]).all(1))
    assert len(dark) == 1
    assert abs(dark[0] - 700 / steps * (width - NAMES_WIDTH)) <= 1


def test_the_reload_button_and_dark_mode_of_tensorboard(page, address):
    # Without the tab's timer, only the button can cause a request.
    page.add_init_script("if (location.pathname.includes('plugin_entry')) setInterval = () => 0")
    tab = Tab(page, address)
    with page.expect_request(lambda request: "/plugin/keras_winit/runs" in request.url):
        page.locator("app-header-reload button").click()
    tab.wait("#status", "10 recorded steps")
    page.evaluate("document.body.classList.add('dark-mode')")
    tab.frame.locator("body.dark").wait_for()


def test_a_run_of_a_later_version(monkeypatch, tmp_path, serve, page):
    monkeypatch.setattr(events, "VERSION", 2)
    write(tmp_path, [record(0)]).close()
    tab = Tab(page, serve(tmp_path), alone=True)
    assert tab.text("#waiting").startswith("No data yet")
    assert tab.text("#unreadable").startswith("Skipped, because this version cannot read it: winit")


def test_the_tab_opens_on_the_worst_finding(opened):
    opened.inside.goto(opened.inside.url)
    opened.wait("#curve h2", "c")
    chosen = [opened.frame.get_by_label(name, exact=True) for name in ("Run", "Statistic")]
    shown = [select.locator("option:checked").inner_text() for select in chosen]
    assert shown == ["bad/winit", "dead_share"]
    assert opened.text("#readout") == "c, step 5: dead_share 0.25, expected: 0 to 0.385"
    # The right column shows the curve of the selected row, and the findings.
    curve = opened.frame.locator("#curve canvas")
    assert curve.get_attribute("aria-label").startswith("dead_share: 0.25 at step 0")
    assert curve.bounding_box()["x"] > 1000
    assert opened.frame.locator("#findings").bounding_box()["x"] > 1000


HEALTHY = {"hidden.pre": 2**0.5, "hidden": 0.826, "sum": 1.7, "out.pre": 1.0, "out": 0.01}
HEALTHY |= {"tokens": 0.029}


def healthy_record(step):
    """A record of a healthy classifier: its probabilities and embeddings vary little."""
    values = np.array([[stddev, -3.0, 3.0] for stddev in HEALTHY.values()], "float32")
    values[4, 1:], values[5, 1:] = (0.05, 0.2), (-0.05, 0.05)
    statistics, counts = ("stddev", "min", "max"), np.zeros((len(HEALTHY), 0), "float32")
    return replace(
        at(step),
        layers=tuple(HEALTHY),
        statistics=statistics,
        values=values,
        counts=counts,
        variables=("tokens/embeddings",),
        variable_values=np.array([[0.75, 1e-3]], "float32"),
    )


def test_without_findings_the_newest_runs_are_compared_and_healthy_ones_are_pale(
    tmp_path, serve, page
):
    for name in ("one", "two"):
        write(tmp_path / name, [healthy_record(step) for step in STEPS]).close()
    tab = Tab(page, serve(tmp_path), alone=True)
    assert set(tab.frame.locator(".pane h2").all_inner_texts()) == {"one/winit", "two/winit"}
    assert "No findings so far." in tab.text("#findings")
    canvas = tab.frame.locator(".map > canvas").first
    box = canvas.bounding_box()
    pixel = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]"
    height = (box["height"] - STEPS_HEIGHT) / len(HEALTHY)
    for row in range(1, len(HEALTHY)):
        color = canvas.evaluate(pixel, [NAMES_WIDTH + 40, int(height * (row + 0.5))])
        assert min(color) >= 200, list(HEALTHY)[row]


def test_an_empty_run_says_what_to_wait_for(tmp_path, serve, page):
    file = events.EventFile(tmp_path / "winit", 0)
    tab = Tab(page, serve(tmp_path, "--reload_interval=1"), alone=True)
    shown = tab.text("#waiting")
    assert shown.startswith("Waiting for the first recorded step")
    assert "winit" in shown
    assert not tab.frame.locator("main").is_visible()
    file.close()
    write(tmp_path / "other", [record(0)]).close()
    tab.wait("#status", "1 recorded steps, the last is step 0")
    assert tab.text("#waiting") == ""


def test_a_damaged_run_is_skipped_and_named(tmp_path, serve, page):
    write(tmp_path / "good", [record(step) for step in STEPS]).close()
    summary = events.SummaryBuilder(set())
    summary._add_tensor("broken", np.ones((1, 1), "float32"), events.PLUGIN, b"{")
    summary._add_tensor(
        "winit/findings", b"{", events.PLUGIN, b'{"version": 1, "kind": "findings"}'
    )
    file = events.EventFile(tmp_path / "bad" / "winit", 0)
    file.write(0, summary)
    file.close()
    tab = Tab(page, serve(tmp_path), alone=True)
    assert tab.text("#status") == "10 recorded steps, the last is step 50"
    skipped = tab.text("#unreadable").partition(": ")[2]
    assert sorted(skipped.split("; ")) == ["bad/winit, broken", "bad/winit, findings"]
