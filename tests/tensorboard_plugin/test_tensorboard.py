"""A run in the tabs of TensorBoard itself, in a real browser."""

from dataclasses import replace

import numpy as np
import pytest
from support.boards import RECORD, at

from keras_winit.monitor import TensorBoardWriter

STEPS = 20


@pytest.fixture(scope="module")
def board(tmp_path_factory, serve_all):
    """Address of a TensorBoard that shows one run, and the writer of the run."""
    path = tmp_path_factory.mktemp("logs")
    writer = TensorBoardWriter(path)
    counts = np.tile([[1, 5, 7, 2]], (4, 1)).astype("float32")
    for step in range(STEPS):
        writer.write(at(step, replace(RECORD, counts=counts)))
    writer.close()
    return serve_all(path), writer


def test_pinned_time_series(board, page):
    address, writer = board
    page.goto(writer.instructions(address).splitlines()[2])
    pinned = page.locator("metrics-pinned-view scalar-card")
    pinned.nth(3).locator("line-chart svg path, line-chart canvas").first.wait_for()
    titles = [card.locator(".tag").inner_text() for card in pinned.all()]
    assert ["".join(title.split()) for title in titles] == [
        "winit/stddev_median",
        "winit/stddev_max",
        "winit/dead_share_median",
        "winit/dead_share_max",
    ]
    groups = page.locator("metrics-main-view .group-title")
    groups.last.wait_for(state="attached")
    assert groups.all_inner_texts()[1:] == [
        "winit",
        "winit_dead_share",
        "winit_gradient_norm",
        "winit_hist",
        "winit_stddev",
        "winit_update_ratio",
    ]


def test_histograms(board, page):
    page.goto(f"{board[0]}/#histograms")
    charts = page.locator("vz-histogram-timeseries")
    charts.nth(3).locator(".histogram").nth(STEPS - 1).wait_for(state="attached")
    assert charts.count() == 4
    # One line for each step. Its height would be 0 if no values had been counted.
    lines = charts.first.locator(".histogram path").evaluate_all(
        "paths => paths.map(path => path.getBBox().height)"
    )
    assert len(lines) == STEPS
    assert min(lines) > 5


def test_distributions(board, page):
    page.goto(f"{board[0]}/#distributions")
    charts = page.locator("vz-distribution-chart")
    charts.nth(3).locator("path.area").first.wait_for(state="attached")
    assert charts.count() == 4
    widths = charts.first.locator("path.area").evaluate_all(
        "paths => paths.map(path => path.getBBox().width)"
    )
    assert min(widths) > 100
