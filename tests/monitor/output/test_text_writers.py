"""JSON lines and CSV files: their content, and files that exist already."""

import csv
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.boards import FINDING, RECORD, WRITERS, at, written_steps

from keras_winit.monitor import CsvWriter, JsonLinesWriter


def parse_strictly(line):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(line, parse_constant=refuse)


def test_json_lines(tmp_path):
    writer = JsonLinesWriter(tmp_path / "new" / "out.jsonl")
    writer.write(at(7))
    writer.write_findings(8, [FINDING])
    writer.close()
    lines = (tmp_path / "new" / "out.jsonl").read_text().splitlines()
    record, findings = map(parse_strictly, lines)
    assert record == {
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


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_an_unfinished_last_line_is_removed(kind, tmp_path):
    writer = WRITERS[kind](tmp_path)
    writer.write(at(0))
    writer.close()
    (file,) = (tmp_path / "logs").iterdir()
    complete = file.read_bytes()
    for content in (
        complete + complete[-9:-1],
        complete + b"x" * 100_000,
        complete,
        complete[:4],
        b"",
    ):
        file.write_bytes(content)
        writer = WRITERS[kind](tmp_path)
        writer.write(at(1))
        writer.close()
        assert written_steps(tmp_path) == ([0, 1] if content.startswith(complete) else [1])


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize(
    "content",
    # `History.to_jsonl` writes lines like the last one.
    ["precious", "precious\nlines\n", '{"step": 0, "layer": "loss", "value": 1}\n'],
)
def test_files_of_others_are_left_unchanged(kind, content, tmp_path):
    (tmp_path / "logs").mkdir()
    file = tmp_path / "logs" / ("out.jsonl" if kind == "json" else "out.csv")
    file.write_text(content)
    with pytest.raises(FileExistsError) as caught:
        WRITERS[kind](tmp_path).write(RECORD)
    assert str(caught.value) == (
        f"[Errno 17] is not a file of this writer and was left unchanged: '{file}'"
    )
    assert file.read_text() == content


NAMES = st.lists(
    st.text(st.characters(exclude_characters="@")), min_size=4, max_size=4, unique=True
)


@given(names=NAMES)
def test_json_lines_keep_any_layer_name(names, tmp_path):
    path = tmp_path / "out.jsonl"
    path.unlink(missing_ok=True)
    writer = JsonLinesWriter(path)
    for step in range(2):
        writer.write(at(step, replace(RECORD, layers=tuple(names))))
    writer.close()
    for line in path.read_text().splitlines():
        record = parse_strictly(line)
        assert list(record["layers"]) == list(record["counts"]) == names


@given(names=NAMES)
def test_csv_keeps_the_rows_of_any_layer_name(names, tmp_path):
    path = tmp_path / "out.csv"
    path.unlink(missing_ok=True)
    writer = CsvWriter(path)
    for step in range(2):
        writer.write(at(step, replace(RECORD, layers=tuple(names))))
    writer.close()
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert all(len(row) == len(header) for row in rows)
    # Line breaks become spaces; what UTF-8 cannot encode becomes a question mark.
    kept = [" ".join(name.splitlines()).encode(errors="replace").decode() for name in names]
    read_back = [row[1] for row in rows if row[3] == "stddev"]
    assert read_back == kept * 2
