"""Images for TensorBoard: when they are drawn, and that TensorBoard shows them."""

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support import boards
from support.boards import FINDING, RECORD, at

from keras_winit import plots
from keras_winit.monitor import TensorBoardWriter
from keras_winit.monitor.output import images
from keras_winit.monitor.output.images import ImageAlbum


def test_an_album_drops_records_evenly():
    album = ImageAlbum()
    for step in range(1000):
        album.add(at(step))
        steps = [record.step for record in album.records]
        assert len(steps) <= 200
        assert (steps[0], steps[-1]) == (0, step)
        assert len(set(np.diff(steps[:-1]))) <= 1
    assert steps == [*range(0, 1000, 8), 999]


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by a number that the test sets; drawing adds one second to it."""
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(images, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def draw(album):
        clock.now += 1
        return {}

    monkeypatch.setattr(ImageAlbum, "_draw", draw)
    return clock


def test_drawing_takes_one_percent_of_the_time(clock):
    album, drawn_at = ImageAlbum(), []
    for second in range(1000):
        clock.now += 1
        album.add(at(second))
        if album.is_due():
            drawn_at.append(second)
            album.draw()
    assert len(drawn_at) == 10
    assert drawn_at[0] == 101
    assert min(np.diff(drawn_at)) >= 98


def test_one_short_run_is_drawn_and_few_of_many_in_a_loop(clock):
    album, drawn_at = ImageAlbum(), []
    for fit in range(1, 101):
        album.add(at(fit))
        assert not album.is_due()
        if album.is_due(ended=True):
            drawn_at.append(fit)
            album.draw()
        assert not album.is_due(ended=True)
    assert drawn_at == [1, 2, 4, 8, 16, 32, 64]
    assert album.is_due(closed=True)
    album.draw()
    assert not album.is_due(closed=True)
    assert not ImageAlbum().is_due(closed=True)


def read_images(loader, log_dir):
    """Return the images that TensorBoard reads: {tag: [(step, [width, height, PNG])]}."""
    from tensorboard.context import RequestContext

    provider, context = boards.PROVIDERS[loader](log_dir), {"ctx": RequestContext()}
    if loader == "rust":
        boards.wait(provider, ("winit", "winit/loss"), 2)
    series = provider.read_blob_sequences(
        **context, experiment_id="", plugin_name="images", downsample=100
    )
    return {
        tag: [
            (
                point.step,
                [provider.read_blob(**context, blob_key=blob.blob_key) for blob in point.values],
            )
            for point in points
        ]
        for tag, points in series["winit"].items()
    }


@pytest.mark.parametrize("loader", boards.PROVIDERS)
def test_tensorboard_reads_the_images(loader, tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(at(0))
    writer.write_findings(0, [FINDING])
    writer.flush()
    writer.write(at(1))
    writer.end()
    found = read_images(loader, tmp_path)
    writer.close()
    assert set(found) == {"winit/health", "winit/strips"}
    for points in found.values():
        ((step, (width, height, png)),) = points
        assert step == 1
        assert (width, height) == (b"660", b"440")
        assert png.startswith(b"\x89PNG")
        from matplotlib.image import imread

        (tmp_path / "out.png").write_bytes(png)
        assert imread(tmp_path / "out.png").shape == (440, 660, 4)


def image_tags_and_warnings(path, **options):
    """Write two records, all scalars of which must be there; return image tags and warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer = TensorBoardWriter(path, **options)
        for step in (0, 1):
            writer.write(at(step))
            writer.end()
        writer.close()
    tags = {tag for _, tag in boards.read("python", path)}
    assert {"winit/loss", "winit/stddev_max"} <= tags
    assert len(boards.read("python", path)["winit", "winit/loss"]) == 2
    from tensorboard.context import RequestContext

    listed = boards.PROVIDERS["python"](path).list_blob_sequences(
        RequestContext(), experiment_id="", plugin_name="images"
    )
    return set(listed.get("winit", ())), [str(warning.message) for warning in caught]


def test_images_can_be_left_out(tmp_path):
    assert image_tags_and_warnings(tmp_path, images=False) == (set(), [])


def test_without_matplotlib_there_are_no_images(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert image_tags_and_warnings(tmp_path) == (set(), [])


def test_a_failed_drawing_gives_one_warning(monkeypatch, tmp_path):
    def fail(*args, **options):
        raise ZeroDivisionError("no paint")

    monkeypatch.setattr(plots, "health", fail)
    message = (
        f"`TensorBoardWriter('{tmp_path}')` draws no more images and writes everything else. "
        "Received: ZeroDivisionError: no paint"
    )
    assert image_tags_and_warnings(tmp_path) == (set(), [message])


def test_characters_that_the_font_lacks_give_no_warning(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer = TensorBoardWriter(tmp_path)
        writer.write(replace(RECORD, layers=("\u5c42", "\U0001f4a5", "$", "\ud800")))
        writer.close()
    assert caught == []
    assert set(read_images("python", tmp_path)) == {"winit/health", "winit/strips"}
