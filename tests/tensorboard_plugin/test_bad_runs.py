"""The tab among runs that no monitor has written, or that were damaged: it never answers 500."""

import itertools
import json
import math
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from support import boards
from support.boards import FINDING, RECORD, at
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.context import RequestContext
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto
from werkzeug.test import Client

from keras_winit.monitor import TensorBoardWriter
from tensorboard_plugin_keras_winit.plugin import Loader

LAYOUT = {"version": 1, "kind": "layers", "rows": ["a"], "tags": ["0_a"], "columns": ["stddev"]}
FINDINGS = {"version": 1, "kind": "findings"}

# Descriptions that no monitor of this version writes.
DESCRIPTIONS = {
    "empty": b"",
    "broken": b'{"version": 1',
    "null": b"null",
    "list": b"[]",
    "no_version": b"{}",
    "later_version": json.dumps({**LAYOUT, "version": 2}).encode(),
    "odd_version": json.dumps({**LAYOUT, "version": [1]}).encode(),
    "no_kind": json.dumps({**LAYOUT, "kind": None}).encode(),
    "other_kind": json.dumps({**LAYOUT, "kind": "blocks"}).encode(),
    "no_rows": json.dumps({**LAYOUT, "rows": None}).encode(),
    "zero_rows": json.dumps({**LAYOUT, "rows": [], "tags": []}).encode(),
    "zero_columns": json.dumps({**LAYOUT, "columns": []}).encode(),
    "rows_without_tags": json.dumps({**LAYOUT, "tags": []}).encode(),
    "more_rows_than_tags": json.dumps({**LAYOUT, "rows": ["a", "b"]}).encode(),
    "rows_of_numbers": json.dumps({**LAYOUT, "rows": [1]}).encode(),
    "not_utf8": b'{"version": 1, "kind": "\xff"}',
    "deep": b"[" * 3000 + b"]" * 3000,
    "deep_in_rows": json.dumps(LAYOUT).encode().replace(b'"a"', b"[" * 3000 + b"]" * 3000),
}
TABLES = {
    "text": b"text",
    "vector": np.ones(3, "float32"),
    "wide": np.ones((1, 2), "float32"),
    "complex": np.ones((1, 1), "complex64"),
    "texts": np.array([[b"1"]]),
    "no_tensor": TensorProto(),
    "too_few_bytes": TensorProto(dtype=1, tensor_content=b"123"),
}
FINDING_TEXTS = {
    "empty": b"",
    "null": b"null",
    "number": b"3",
    "list_of_numbers": b"[3]",
    "deep": b"[" * 3000 + b"]" * 3000,
    "object": b'[{"layer": {}}]',
    "nested_list": b'[{"healthy_range": [[0]]}]',
    "consequences": b'[{"consequences": [3]}]',
    "not_utf8": b"\xff",
    "digits": b"[" + b"1" * 5000 + b"]",
    "array": np.ones(3, "float32"),
    "no_tensor": TensorProto(),
}
HISTOGRAMS = {
    "text": b"x",
    "vector": np.ones(3, "float32"),
    "no_bins": np.ones((0, 3), "float32"),
    "four_columns": np.ones((2, 4), "float32"),
    "nan": np.full((2, 3), np.nan),
    "descending": np.array([[0.0, 1, 1], [-1, 0, 1]]),
    "negative_count": np.array([[0.0, 1, -1]]),
    "no_tensor": TensorProto(),
}


def write_events(path, events, ending=""):
    """Write events to a file with right checksums."""
    path.mkdir(parents=True)
    with open(path / f"events.out.tfevents.1700000000.host{ending}", "wb") as file:
        for event in events:
            RecordWriter(file).write(event.SerializeToString())


def event_of(tag, value, description=b"", plugin="keras_winit"):
    event = Event(wall_time=1.7e9, step=0)
    data = SummaryMetadata.PluginData(plugin_name=plugin, content=description)
    event.summary.value.add(
        tag=tag,
        tensor=value if isinstance(value, TensorProto) else make_tensor_proto(value),
        metadata=SummaryMetadata(plugin_data=data, data_class=2),
    )
    return event


def write_good_run(path):
    writer = TensorBoardWriter(path, images=False)
    for step in range(3):
        writer.write(at(step))
    writer.write_findings(2, [FINDING])
    writer.close()


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs")
    write_good_run(path / "good")
    table, findings = json.dumps(LAYOUT).encode(), json.dumps(FINDINGS).encode()
    value = np.ones((1, 1), "float32")
    for name, description in DESCRIPTIONS.items():
        write_events(path / "layout" / name, [event_of("t", value, description)])
    for name, value in TABLES.items():
        write_events(path / "table" / name, [event_of("t", value, table)])
    for name, value in FINDING_TEXTS.items():
        event = event_of("winit/findings", value, findings)
        write_events(path / "findings" / name, [event])
    for name, value in HISTOGRAMS.items():
        event = event_of("winit_hist/a", value, plugin="histograms")
        write_events(path / "histogram" / name, [event])
    return path


def client(provider):
    apps = Loader().load(SimpleNamespace(data_provider=provider)).get_plugin_apps()
    return lambda route, **query: Client(apps[route]).get(route, query_string=query)


@pytest.fixture(scope="module", params=["python", "rust"])
def get(request, log_dir):
    provider = boards.PROVIDERS[request.param](log_dir)
    if request.param == "rust":
        wait_for_runs(provider)
    return client(provider)


def wait_for_runs(provider):
    """Wait until the fast loader has the good run, and finds no more runs for half a second."""
    experiment = {"ctx": RequestContext(), "experiment_id": ""}
    known, since = None, time.monotonic()
    deadline = since + 30
    while time.monotonic() < deadline:
        listed = provider.list_tensors(**experiment, plugin_name="keras_winit")
        found = {(run, tag) for run, tags in listed.items() for tag in tags}
        if found != known:
            known, since = found, time.monotonic()
        if ("good/winit", "winit/findings") in found and time.monotonic() - since > 0.5:
            return
        time.sleep(0.05)


def test_runs_without_a_layout_are_skipped_and_named(get):
    answer = get("/runs")
    assert answer.status_code == 200
    described = {table["run"] for table in answer.json["tables"]}
    assert described == {"good/winit", *(f"table/{name}" for name in TABLES)}
    skipped = {"run": "layout/empty", "tag": "t"}
    assert skipped in answer.json["skipped"]
    expected = {f"layout/{name}" for name in DESCRIPTIONS}
    assert {entry["run"] for entry in answer.json["skipped"]} == expected


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_run_without_a_layout_has_no_table(get, name):
    assert get("/table", run=f"layout/{name}", tag="t", column=0).status_code == 404


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_another_shape_or_type_are_refused(get, name):
    answer = get("/table", run=f"table/{name}", tag="t", column=0)
    assert answer.status_code == 422
    assert "no step holds numbers of shape (1, 1)" in answer.text or "no tensor" in answer.text


@pytest.mark.parametrize("name", FINDING_TEXTS)
def test_findings_of_another_form_are_refused(get, name):
    assert get("/findings", run=f"findings/{name}").status_code == 422


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histograms_of_another_form_are_refused(get, name):
    assert get("/histogram", run=f"histogram/{name}", tag="a").status_code == 422


def tag_of_good_table(get):
    tables = get("/runs").json["tables"]
    return next(t["tag"] for t in tables if (t["run"], t["kind"]) == ("good/winit", "layers"))


def test_the_good_run_is_served_in_full(get):
    tag = tag_of_good_table(get)
    width = len(RECORD.layers)
    assert (
        len(get("/table", run="good/winit", tag=tag, column=0).data) == 3 * (8 + 4 * width) + width
    )
    assert [finding["rule"] for finding in get("/findings", run="good/winit").json] == [
        "dead_units"
    ]
    assert len(get("/histogram", run="good/winit", tag="002_dense").json) == 3


HOSTILE_TEXTS = (
    "",
    ".",
    "../../etc/passwd",
    "good/winit\0",
    "\u202e\u5c42",
    "%00%ff",
    "'; --",
    "<script>",
    "x" * 5000,
    "winit/findings",
)
HOSTILE_NUMBERS = (-1, 10**30, 1e9, "NaN", "0x1", "1_0", "", "1e400", "0;", "\u221e")


def test_hostile_requests_to_a_good_run_are_refused(get):
    tag = tag_of_good_table(get)
    runs, tags = ("good/winit", *HOSTILE_TEXTS), (tag, *HOSTILE_TEXTS)
    queries = [{"run": run, "tag": tag} for run, tag in itertools.product(runs, tags)]
    answers = [get("/table", **query, column=0) for query in queries]
    assert [answer.status_code for answer in answers] == [200] + [404] * (len(queries) - 1)
    for axis, number in itertools.product(("row", "column"), HOSTILE_NUMBERS):
        assert get("/table", **queries[0], **{axis: number}).status_code == 400, (axis, number)
    for query in queries:
        assert get("/histogram", **query).json == []
    for run in HOSTILE_TEXTS:
        assert get("/findings", run=run).json == []


# The number of runs, each with three mutations on average.
MUTANTS = 100


def good_events(path):
    write_good_run(path)
    (file,) = (path / "winit").iterdir()
    return [Event.FromString(data) for data in RawEventFileLoader(str(file)).Load()]


def mutate_bytes(data, rng):
    """Cut, repeat, insert or change a few bytes."""
    data = bytearray(data)
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 1, 4, 100)))
    data[start:end] = rng.choice(
        (
            b"",
            rng.randbytes(end - start),
            2 * data[start:end],
            b"\xff",
            b"[" * 1500,
            b"null",
            b"9" * 5000,
        )
    )
    return bytes(data)


def mutate(events, rng):
    """Change one of the values that our plugin or the plugin of histograms reads."""
    values = [
        value for event in events for value in event.summary.value if value.HasField("tensor")
    ]
    described = [value for value in values if value.metadata.plugin_data.content]
    value = rng.choice(values)
    match rng.randrange(8):
        case 0 | 1 | 2:
            data = rng.choice(described).metadata.plugin_data
            data.content = mutate_bytes(data.content, rng)
        case 3:
            value.tensor.dtype = rng.choice((0, 1, 2, 7, 8, 10, 14, 19, 20, 100))
        case 4:
            size = rng.choice((-1, 0, 1, 2, 3, 1000))
            value.tensor.tensor_shape.dim.add(size=size)
        case 5:
            value.tensor.tensor_content = mutate_bytes(value.tensor.tensor_content, rng)
        case 6:
            value.tensor.string_val[:] = [mutate_bytes(b'[{"rule": "a"}]', rng)]
        case 7:
            value.CopyFrom(type(value).FromString(damaged_message(value, rng)))


def damaged_message(message, rng):
    """Return bytes that are still a message of the same type.

    TensorBoard itself repeats a single number until a tensor has the shape that the file claims,
    so that a claim of 2**40 entries needs as much memory, whatever a plugin does.
    """
    data = message.SerializeToString()
    for _ in range(20):
        candidate = mutate_bytes(data, rng)
        try:
            shape = type(message).FromString(candidate).tensor.tensor_shape
        except DecodeError:
            continue
        if math.prod(max(1, abs(dim.size)) for dim in shape.dim) < 1e5:
            return candidate
    return data


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    """A log directory with a run for each seed. One in ten is damaged below its checksums."""
    path = tmp_path_factory.mktemp("mutants")
    data = [event.SerializeToString() for event in good_events(tmp_path_factory.mktemp("good"))]
    for seed in range(MUTANTS):
        rng = random.Random(seed)
        events = [Event.FromString(one) for one in data]
        for _ in range(rng.choice((1, 3, 5))):
            mutate(events, rng)
        write_events(path / f"{seed:04}", events)
        if seed % 10 == 0:
            (file,) = (path / f"{seed:04}").iterdir()
            file.write_bytes(mutate_bytes(file.read_bytes(), rng))
    write_good_run(path / "good")
    return path


@pytest.mark.parametrize("loader", ["python", "rust"])
def test_mutated_runs_cause_no_server_error(loader, mutants):
    provider = boards.PROVIDERS[loader](mutants)
    if loader == "rust":
        wait_for_runs(provider)
    get = client(provider)
    answer = get("/runs")
    assert answer.status_code == 200
    listed = answer.json
    requests = [("/findings", {"run": f"{seed:04}"}) for seed in range(MUTANTS)]
    requests += [
        ("/histogram", {"run": f"{seed:04}", "tag": "002_dense"}) for seed in range(MUTANTS)
    ]
    for table, axis in zip(listed["tables"], itertools.cycle(("row", "column")), strict=False):
        requests.append(("/table", {"run": table["run"], "tag": table["tag"], axis: 0}))
    statuses = {
        (route, *query.values()): get(route, **query).status_code for route, query in requests
    }
    assert set(statuses.values()) == {200, 422}
    assert {"good/winit"} <= {table["run"] for table in listed["tables"]}
    # The mutations reach what they are meant to test.
    assert len(listed["skipped"]) > 20
    assert sum(status == 422 for status in statuses.values()) > 20
