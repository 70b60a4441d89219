"""Writers: what they write is read back by what others read with."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import boards
from support.boards import FINDING, MAKE, RECORD, at, steps

from keras_winit.monitor.output.events import tags
from keras_winit.monitor.output.writers import (
    CsvWriter,
    JsonLinesWriter,
    TensorBoardWriter,
)

LOADERS = ["python", "rust"]


@pytest.fixture(params=MAKE)
def make(request, tmp_path):
    return lambda: MAKE[request.param](tmp_path)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The log directory of a run of three samples and one finding."""
    path = tmp_path_factory.mktemp("board")
    writer = TensorBoardWriter(path)
    for step in (0, 1, 5):
        writer.write(at(step))
    writer.write_findings(5, [FINDING])
    writer.close()
    return path


@pytest.fixture(scope="module", params=LOADERS)
def found(request, board):
    return boards.read(request.param, board, until=(("winit", "winit/loss"), 3))


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
        np.testing.assert_array_equal(np.float32([v for _, v in points]), np.float32(value), tag)
    assert found["winit", "winit/loss"] == [(0, 0.0), (1, 0.25), (5, 1.25)]
    assert found["winit", "winit/layers_with_findings"] == [(5, 2.0)]
    curves = {tag for run, tag in found if isinstance(found[run, tag][0][1], float)}
    assert curves == {*SCALARS, "winit/loss", "winit/layers_with_findings"}


def test_histograms_are_read_back(found):
    rows = {
        "winit_hist/000_block_conv": [[-1, 0, 3], [0, 0.5, 0], [0.5, 3, 1]],
        "winit_hist/002_dense": [[0, 0.5, 7]],
        "winit_hist/003_dense@2": [[-2, -1, 1], [-1, 0, 1], [0, 0.5, 1], [0.5, 3, 1]],
    }
    assert {tag for _, tag in found if tag.startswith("winit_hist")} == set(rows)
    for tag, row in rows.items():
        assert [(step, value.tolist()) for step, value in found["winit", tag]] == [
            (0, row),
            (1, row),
            (5, row),
        ]


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


def test_values_of_findings_are_short(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write_findings(0, [{**FINDING, "value": 0.0064763123}])
    writer.close()
    ((_, text),) = boards.read("python", tmp_path)["winit", "winit/findings_text"]
    assert "- value: 0.00648\n" in text.item().decode()


def test_a_text_that_says_nothing_new_is_not_written(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    for step, findings in enumerate([[FINDING], [{**FINDING, "hits": 4}], []]):
        writer.write_findings(step, findings)
    writer.close()
    found = boards.read("python", tmp_path)
    assert [step for step, _ in found["winit", "winit/findings"]] == [0, 1, 2]
    (first, _), (last, text) = found["winit", "winit/findings_text"]
    assert (first, last, text.item()) == (0, 2, b"nothing was found")


@pytest.mark.parametrize("loader", LOADERS)
def test_tables_carry_their_names(loader, board):
    boards.read(loader, board, until=(("winit", "winit/loss"), 3))
    described = {
        json.loads(content)["kind"]: json.loads(content)
        for content in boards.contents("python", board).values()
    }
    assert described == {
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


def test_the_margin_chart(found):
    from tensorboard.plugins.custom_scalar import layout_pb2

    ((_, layout),) = found["winit", "custom_scalars__config__"]
    (category,) = layout_pb2.Layout.FromString(layout.item()).category
    (series, _) = (chart.margin.series[0] for chart in category.chart)
    assert (series.lower, series.value, series.upper) == (
        "winit/stddev_min",
        "winit/stddev_median",
        "winit/stddev_max",
    )


def test_no_chart_without_numbers(tmp_path):
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


def test_one_event_a_sample_with_right_checksums(board):
    (file,) = (board / "winit").iterdir()
    # TensorFlow's reader checks the sums.
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(file))
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
    # What TensorBoard must know of a tag stands at its first value only.
    described = [
        value.tag for event in events for value in event.summary.value if value.HasField("metadata")
    ]
    assert len(described) == len(set(described)) == 10


@pytest.mark.parametrize("loader", LOADERS)
def test_a_resumed_run_takes_the_place_of_what_it_repeats(loader, tmp_path):
    for run in ((0, 1, 2, 3, 4), (3, 4)):
        writer = TensorBoardWriter(tmp_path)
        for step in run:
            writer.write(at(step, replace(RECORD, values=RECORD.values * len(run))))
        writer.close()
    key = ("winit", "winit/stddev_max")
    found = boards.read(loader, tmp_path, until=(key, 5))
    assert found[key] == [(0, 10.0), (1, 10.0), (2, 10.0), (3, 4.0), (4, 4.0)]


def test_other_layers_get_a_table_of_their_own(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(at(0))
    writer.write(at(1, replace(RECORD, layers=("a", "b", "c", "d"))))
    writer.close()
    rows = [
        content["rows"]
        for content in map(json.loads, boards.contents("python", tmp_path).values())
        if content["kind"] == "layers"
    ]
    assert sorted(rows) == [["a", "b", "c", "d"], list(RECORD.layers)]


def test_many_layers_get_no_curves_of_their_own(tmp_path):
    writer = TensorBoardWriter(tmp_path, most=2)
    writer.write(RECORD)
    writer.close()
    groups = {tag.partition("/")[0] for _, tag in boards.read("python", tmp_path)}
    assert "winit_stddev" not in groups
    # A layer and its pre-activation count as one.
    writer = TensorBoardWriter(tmp_path / "more", most=sum(".pre" not in n for n in RECORD.layers))
    writer.write(RECORD)
    writer.close()
    assert any("winit_stddev/" in tag for _, tag in boards.read("python", tmp_path / "more"))
    assert {"winit", "winit_gradient_norm", "winit_hist"} <= groups


def test_a_sample_of_nothing(tmp_path):
    nothing = replace(
        RECORD,
        values=np.full_like(RECORD.values, np.nan),
        variables=(),
        variable_values=np.zeros((0, 2), "float32"),
        edges=np.zeros(0),
        counts=np.zeros((4, 0), "float32"),
        loss=None,
    )
    for make in MAKE.values():
        writer = make(tmp_path)
        writer.write(nothing)
        writer.close()
    ((_, tag),) = boards.read("python", tmp_path)
    assert tag.startswith("winit/layers/")


def test_tags():
    names = ["a/b c", "<img src=x>", "schön\u5c42", "same", "same", "x" * 70 + "/end", "\ud800"]
    assert tags(names) == [
        "000_a_b_c",
        "001__img_src_x_",
        "002_schön\u5c42",
        "003_same",
        "004_same",
        "005_" + "x" * 56 + "_end",
        "006__",
    ]
    many = tags(["x"] * 1001)
    assert (many[0], many[-1]) == ("0000_x", "1000_x")
    assert sorted(many) == many


def test_hostile_names_are_written(make, tmp_path):
    names = ("<script>alert(1)</script>", "\ud800,\n\"'", "x" * 5000, "=1+1@2")
    writer = make()
    for step in range(2):
        writer.write(at(step, replace(RECORD, layers=names)))
    writer.close()
    assert steps(tmp_path) == [0, 1]


def test_instructions():
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


def strict(line):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(line, parse_constant=refuse)


def test_json_lines(tmp_path):
    writer = JsonLinesWriter(tmp_path / "new" / "out.jsonl")
    writer.write(at(7))
    writer.write_findings(8, [FINDING])
    writer.close()
    sample, findings = map(strict, (tmp_path / "new" / "out.jsonl").read_text().splitlines())
    assert sample == {
        "kind": "sample",
        "step": 7,
        "loss": 1.75,
        "layers": {
            "block/conv": {"stddev": 0.1, "dead_share": 0.25, "minimum": "-inf"},
            "block/conv.pre": {"stddev": 0.5, "dead_share": None, "minimum": -3.0},
            "dense": {"stddev": 2.0, "dead_share": 0.5, "minimum": None},
            "dense@2": {"stddev": 1.0, "dead_share": None, "minimum": 1e-30},
        },
        "variables": {
            "block/conv/kernel": {"gradient_norm": 0.75, "update_ratio": 0.001},
            "dense/kernel": {"gradient_norm": "inf", "update_ratio": None},
        },
        "edges": [-2.0, -1.0, 0.0, 0.5, 3.0],
        "counts": {
            "block/conv": [0, 3, 0, 1],
            "block/conv.pre": [0, 0, 0, 0],
            "dense": [0, 0, 7, 0],
            "dense@2": [1, 1, 1, 1],
        },
    }
    assert findings == {"kind": "findings", "step": 8, "findings": [{**FINDING, "value": None}]}


def test_csv(tmp_path):
    writer = CsvWriter(tmp_path / "out.csv")
    writer.write(replace(at(7), layers=("a", "a:1.pre", "a@2", "a:1@12.pre")))
    writer.close()
    assert (tmp_path / "out.csv").read_text() == (
        "step,layer,call,statistic,value\n"
        "7,,,loss,1.75\n"
        "7,a,1,stddev,0.1\n7,a,1,dead_share,0.25\n7,a,1,minimum,-inf\n"
        "7,a:1.pre,1,stddev,0.5\n7,a:1.pre,1,dead_share,nan\n7,a:1.pre,1,minimum,-3.0\n"
        "7,a,2,stddev,2.0\n7,a,2,dead_share,0.5\n7,a,2,minimum,nan\n"
        "7,a:1.pre,12,stddev,1.0\n7,a:1.pre,12,dead_share,nan\n7,a:1.pre,12,minimum,1e-30\n"
        "7,block/conv/kernel,,gradient_norm,0.75\n7,block/conv/kernel,,update_ratio,0.001\n"
        "7,dense/kernel,,gradient_norm,inf\n7,dense/kernel,,update_ratio,nan\n"
    )


LIGHT = """
import sys
import keras_winit
import numpy as np
from keras_winit.monitor.records import Record
from keras_winit.monitor.output.writers import TensorBoardWriter
before = "tensorflow" in sys.modules
one = np.ones((1, 1), "float32")
sample = Record(0, ("a",), ("stddev",), one, (), (), one[:0], np.arange(2.0), one, 1.0)
TensorBoardWriter(sys.argv[1]).write(sample)
print(before, "tensorflow" in sys.modules)
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras has loaded it")
def test_tensorflow_is_not_loaded(fresh_process, tmp_path):
    assert fresh_process(LIGHT, tmp_path).split() == ["False", "False"]


def test_beside_the_callback_of_keras(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    writer = TensorBoardWriter(tmp_path)

    class Monitor(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            writer.write(at(epoch))

    callbacks = [Monitor(), keras.callbacks.TensorBoard(str(tmp_path))]
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=callbacks)
    writer.close()
    found = boards.read("rust", tmp_path, until=(("train", "epoch_loss"), 3))
    found |= boards.read("python", tmp_path)
    assert {run for run, _ in found} == {"train", "winit"}
    assert [step for step, _ in found["train", "epoch_loss"]] == [0, 1, 2]
    assert [step for step, _ in found["winit", "winit/loss"]] == [0, 1, 2]
