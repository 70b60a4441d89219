"""The TensorBoard writer: TensorBoard and TensorFlow read back what it writes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import boards
from support.boards import EMPTY_RECORD, FINDING, RECORD, at

from keras_winit.monitor import TensorBoardWriter
from keras_winit.monitor.output.events import sortable_tags

LOADERS = ["python", "rust"]


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    """Return the log directory of a run with three records and one finding."""
    path = tmp_path_factory.mktemp("logs")
    writer = TensorBoardWriter(path)
    for step in (0, 1, 5):
        writer.write(at(step))
    writer.write_findings(5, [FINDING])
    writer.close()
    return path


@pytest.fixture(scope="module", params=LOADERS)
def found(request, log_dir):
    """Return all that a loader of TensorBoard reads from this run."""
    return boards.read(request.param, log_dir, until=(("winit", "winit/loss"), 3))


SCALARS = {
    "winit/stddev_min": 0.1,
    "winit/stddev_median": 0.75,
    "winit/stddev_max": 2.0,
    "winit/dead_share_min": 0.25,
    "winit/dead_share_median": 0.375,
    "winit/dead_share_max": 0.5,
    "winit_stddev/000_block_conv": 0.1,
    "winit_stddev/001_block_conv.pre": 0.5,
    "winit_stddev/002_dense": 2.0,
    "winit_stddev/003_dense@2": 1.0,
    "winit_dead_share/000_block_conv": 0.25,
    "winit_dead_share/002_dense": 0.5,
    "winit_gradient_norm/000_block_conv_kernel": 0.75,
    "winit_gradient_norm/001_dense_kernel": np.inf,
    "winit_update_ratio/000_block_conv_kernel": 1e-3,
}


def test_scalars_are_read_back(found):
    for tag, value in SCALARS.items():
        points = found["winit", tag]
        assert [step for step, _ in points] == [0, 1, 5], tag
        values = np.float32([value for _, value in points])
        np.testing.assert_array_equal(values, np.float32(value), tag)
    assert found["winit", "winit/loss"] == [(0, 0.0), (1, 0.25), (5, 1.25)]
    assert found["winit", "winit/layers_with_findings"] == [(5, 2.0)]
    curves = {tag for run, tag in found if isinstance(found[run, tag][0][1], float)}
    assert curves == {*SCALARS, "winit/loss", "winit/layers_with_findings"}


def test_histograms_are_read_back(found):
    bins = {
        "winit_hist/000_block_conv": [[-1, 0, 3], [0, 0.5, 0], [0.5, 3, 1]],
        "winit_hist/002_dense": [[0, 0.5, 7]],
        "winit_hist/003_dense@2": [[-2, -1, 1], [-1, 0, 1], [0, 0.5, 1], [0.5, 3, 1]],
    }
    assert {tag for _, tag in found if tag.startswith("winit_hist")} == set(bins)
    for tag, expected in bins.items():
        points = [(step, value.tolist()) for step, value in found["winit", tag]]
        assert points == [(step, expected) for step in (0, 1, 5)]


def test_tables_are_read_back(found):
    kinds = {"layers": RECORD.values, "variables": RECORD.variable_values}
    for kind, values in kinds.items():
        (tag,) = (tag for _, tag in found if tag.startswith(f"winit/{kind}/"))
        assert [step for step, _ in found["winit", tag]] == [0, 1, 5]
        for _, table in found["winit", tag]:
            assert table.dtype == np.float32
            np.testing.assert_array_equal(table, values)


def test_findings_are_read_back(found):
    ((step, value),) = found["winit", "winit/findings"]
    assert step == 5
    assert json.loads(value.item()) == [{**FINDING, "value": None}]
    ((_, text),) = found["winit", "winit/findings_text"]
    assert text.item().decode().splitlines() == [
        "#### warning: dead&#95;units in dense",
        "",
        "- since step: 0",
        "- value: nan",
        "- why: &lt;b&gt;no&lt;/b&gt; positive &#124; output",
        "- try: he&#95;normal",
        "- hence: layer &#x27;block/out&#x27; is saturated",
    ]


def test_values_of_findings_are_rounded(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write_findings(0, [{**FINDING, "value": 0.0064763123}])
    writer.close()
    ((_, text),) = boards.read("python", tmp_path)["winit", "winit/findings_text"]
    assert "- value: 0.00648\n" in text.item().decode()


def test_an_unchanged_text_is_not_written_again(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    for step, findings in enumerate([[FINDING], [{**FINDING, "hits": 4}], []]):
        writer.write_findings(step, findings)
    writer.close()
    found = boards.read("python", tmp_path)
    assert [step for step, _ in found["winit", "winit/findings"]] == [0, 1, 2]
    (first, _), (last, text) = found["winit", "winit/findings_text"]
    assert (first, last, text.item()) == (0, 2, b"nothing was found")


@pytest.mark.parametrize("loader", LOADERS)
def test_tables_carry_the_names_of_rows_and_columns(loader, log_dir):
    boards.read(loader, log_dir, until=(("winit", "winit/loss"), 3))
    parsed = map(json.loads, boards.descriptions("python", log_dir).values())
    assert {description["kind"]: description for description in parsed} == {
        "layers": {
            "version": 1,
            "kind": "layers",
            "rows": ["block/conv", "block/conv.pre", "dense", "dense@2"],
            "tags": ["000_block_conv", "001_block_conv.pre", "002_dense", "003_dense@2"],
            "columns": ["stddev", "dead_share", "minimum"],
        },
        "variables": {
            "version": 1,
            "kind": "variables",
            "rows": ["block/conv/kernel", "dense/kernel"],
            "tags": ["000_block_conv_kernel", "001_dense_kernel"],
            "columns": ["gradient_norm", "update_ratio"],
        },
        "findings": {"version": 1, "kind": "findings"},
    }


def test_margin_charts_show_the_range_over_layers(found):
    from tensorboard.plugins.custom_scalar import layout_pb2

    ((_, layout),) = found["winit", "custom_scalars__config__"]
    (category,) = layout_pb2.Layout.FromString(layout.item()).category
    (series, _) = (chart.margin.series[0] for chart in category.chart)
    assert (series.lower, series.value, series.upper) == (
        "winit/stddev_min",
        "winit/stddev_median",
        "winit/stddev_max",
    )


def test_a_statistic_without_numbers_gets_no_chart(tmp_path):
    from tensorboard.plugins.custom_scalar import layout_pb2

    values = np.array([[0.5, np.nan, 0.25], [0.25, np.nan, np.nan]])
    names = ("stddev", "dead_share", "saturated_share")
    writer = TensorBoardWriter(tmp_path)
    layers = {"layers": ("a", "b"), "counts": np.zeros((2, 0))}
    writer.write(replace(RECORD, **layers, statistics=names, values=values))
    writer.close()
    found = boards.read("python", tmp_path)
    ((_, layout),) = found["winit", "custom_scalars__config__"]
    (category,) = layout_pb2.Layout.FromString(layout.item()).category
    titles = [chart.title for chart in category.chart]
    assert titles == ["stddev over the layers", "saturated_share over the layers"]
    assert "winit/dead_share_max" not in {tag for _, tag in found}
    assert "winit/saturated_share_max" in {tag for _, tag in found}


def test_each_record_is_one_event_with_a_correct_checksum(log_dir):
    (file,) = (log_dir / "winit").iterdir()
    # TensorFlow's reader verifies the checksums.
    events = [
        tf.compat.v1.Event.FromString(event.numpy()) for event in tf.data.TFRecordDataset(str(file))
    ]
    kinds = [(event.WhichOneof("what"), event.step) for event in events]
    assert kinds == [
        ("file_version", 0),
        ("session_log", 0),
        ("summary", 0),
        ("summary", 1),
        ("summary", 5),
        ("summary", 5),
        ("summary", 5),
    ]
    # Only the first value of a tag carries its metadata.
    described_tags = [
        value.tag for event in events for value in event.summary.value if value.HasField("metadata")
    ]
    assert len(described_tags) == len(set(described_tags)) == 10


@pytest.mark.parametrize("loader", LOADERS)
def test_a_resumed_run_replaces_the_steps_it_repeats(loader, tmp_path):
    for steps in ((0, 1, 2, 3, 4), (3, 4)):
        writer = TensorBoardWriter(tmp_path)
        for step in steps:
            writer.write(at(step, replace(RECORD, values=RECORD.values * len(steps))))
        writer.close()
    key = ("winit", "winit/stddev_max")
    found = boards.read(loader, tmp_path, until=(key, 5))
    assert found[key] == [(0, 10.0), (1, 10.0), (2, 10.0), (3, 4.0), (4, 4.0)]


def test_a_model_with_other_layers_gets_its_own_table(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(at(0))
    writer.write(at(1, replace(RECORD, layers=("a", "b", "c", "d"))))
    writer.close()
    parsed = map(json.loads, boards.descriptions("python", tmp_path).values())
    rows = [description["rows"] for description in parsed if description["kind"] == "layers"]
    assert sorted(rows) == [["a", "b", "c", "d"], list(RECORD.layers)]


# The record has three layers and one pre-activation, which does not count; and two variables.
@pytest.mark.parametrize(("most", "layers_have_curves"), [(2, False), (3, True)])
def test_too_many_layers_get_no_curves_of_their_own(most, layers_have_curves, tmp_path):
    writer = TensorBoardWriter(tmp_path, max_curves=most)
    writer.write(RECORD)
    writer.close()
    groups = {tag.partition("/")[0] for _, tag in boards.read("python", tmp_path)}
    assert ("winit_stddev" in groups) == layers_have_curves
    assert {"winit", "winit_gradient_norm", "winit_hist"} <= groups


def test_a_record_without_numbers_gets_only_a_table(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(EMPTY_RECORD)
    writer.close()
    ((_, tag),) = boards.read("python", tmp_path)
    assert tag.startswith("winit/layers/")


def test_each_event_file_describes_its_tags(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    for step in range(2):
        writer.write(at(step))
        writer.close()
    described = boards.descriptions("python", tmp_path)
    min((tmp_path / "winit").iterdir()).unlink()
    assert boards.descriptions("python", tmp_path) == described
    assert len(described) == 2


def test_tags_are_harmless_and_sort_like_the_names():
    names = ["a/b c", "<img src=x>", "schön\u5c42", "same", "same", "x" * 70 + "/end", "\ud800"]
    assert sortable_tags(names) == [
        "000_a_b_c",
        "001__img_src_x_",
        "002_schön\u5c42",
        "003_same",
        "004_same",
        "005_" + "x" * 56 + "_end",
        "006__",
    ]
    many = sortable_tags(["x"] * 1001)
    assert (many[0], many[-1]) == ("0000_x", "1000_x")
    assert sorted(many) == many


def test_instructions_give_the_command_and_two_addresses():
    lines = TensorBoardWriter("my logs").instructions().splitlines()
    cards = (
        "%5B%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22winit/stddev_median%22%7D%2C"
        "%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22winit/stddev_max%22%7D%2C"
        "%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22winit/dead_share_median%22%7D%2C"
        "%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22winit/dead_share_max%22%7D%2C"
        "%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22winit/saturated_share_median%22%7D%2C"
        "%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22winit/saturated_share_max%22%7D%5D"
    )
    assert lines == [
        "tensorboard --logdir 'my logs'",
        "http://localhost:6006/#keras_winit",
        f"http://localhost:6006/?pinnedCards={cards}#timeseries",
    ]


WRITE_ONE_RECORD = """
import sys
import keras_winit
import numpy as np
from keras_winit.monitor.records import Record
from keras_winit.monitor import TensorBoardWriter
from_import = "tensorflow" in sys.modules
one = np.ones((1, 1), "float32")
record = Record(0, ("a",), ("stddev",), one, (), (), one[:0], np.arange(2.0), one, 1.0)
TensorBoardWriter(sys.argv[1]).write(record)
print(from_import, "tensorflow" in sys.modules)
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras loads TensorFlow itself")
def test_tensorflow_is_not_loaded(fresh_process, tmp_path):
    assert fresh_process(WRITE_ONE_RECORD, tmp_path).split() == ["False", "False"]


def test_the_run_stands_beside_that_of_the_keras_callback(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    writer = TensorBoardWriter(tmp_path)

    class WritesEachEpoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            writer.write(at(epoch))

    callbacks = [WritesEachEpoch(), keras.callbacks.TensorBoard(str(tmp_path))]
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=callbacks)
    writer.close()
    found = boards.read("rust", tmp_path, until=(("train", "epoch_loss"), 3))
    found |= boards.read("python", tmp_path)
    assert {run for run, _ in found} == {"train", "winit"}
    assert [step for step, _ in found["train", "epoch_loss"]] == [0, 1, 2]
    assert [step for step, _ in found["winit", "winit/loss"]] == [0, 1, 2]


def test_a_writer_in_another_process_gets_a_run_of_its_own(tmp_path):
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from support.boards import RECORD, TensorBoardWriter\n"
        "writer = TensorBoardWriter(sys.argv[1], images=False)\n"
        "writer.write(RECORD)\n"
        "print('written', flush=True)\n"
        "input()\n"
    )
    tests = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(tmp_path), str(tests)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "written\n"
        here = TensorBoardWriter(tmp_path, images=False)
        here.write(RECORD)
        here.close()
        assert {path.name for path in tmp_path.iterdir()} == {"winit", "winit_2"}
        other.communicate("\n", timeout=60)
    # The run of a process that has ended is free.
    later = TensorBoardWriter(tmp_path, images=False)
    later.write(RECORD)
    later.close()
    assert len(list((tmp_path / "winit").iterdir())) == 2
