"""Writes records and findings to a file with one JSON object a line."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.output.append_only_file import AppendOnlyFile, cut_unfinished_line
from keras_winit.monitor.output.strict_json import dumps
from keras_winit.monitor.output.writers.writer import FileWriter, FindingFields
from keras_winit.monitor.records import Record


class JsonLinesWriter(FileWriter):
    """Writes one JSON object a line: a record, or all findings at a step.

    A record is `{"kind": "sample", "step": 7, "loss": 0.3, "layers": {"dense": {"stddev": 1.0,
    ...}, ...}, "variables": {"dense/kernel": {"gradient_norm": 0.1, ...}, ...}}`; with
    histograms it also has `"edges": [...], "counts": {"dense": [...], ...}`. The fields are
    those of `keras_winit.monitor.Record`. Findings are `{"kind": "findings", "step": 7,
    "findings": [...]}`. NaN and an unknown loss are null; infinities are the strings "inf" and
    "-inf".

    A resumed run appends to the file. If it starts from an earlier step, some steps are there
    twice; the last one counts.

    Args:
        path: Path of the file. A last line that a killed process left unfinished is removed.

    Raises:
        TypeError: At construction, if `path` is not a path.
        OSError: At a record, if the file cannot be written or is not a file of this writer.
    """

    def write(self, record: Record) -> None:
        line = {
            "kind": "sample",
            "step": record.step,
            "loss": record.loss,
            "layers": _nested(record.layers, record.statistics, record.values),
            "variables": _nested(
                record.variables, record.variable_statistics, record.variable_values
            ),
        }
        if record.counts.size:
            counts = dict(zip(record.layers, record.counts.tolist(), strict=True))
            line |= {"edges": record.edges, "counts": counts}
        self._write_line(line)

    def write_findings(self, step: int, findings: Sequence[FindingFields]) -> None:
        self._write_line({"kind": "findings", "step": step, "findings": findings})

    def _write_line(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            cut_unfinished_line(self._path, b'{"kind": ')
            self._file = AppendOnlyFile(self._path)
        self._file.write(dumps(line).encode() + b"\n")


def _nested(
    names: Sequence[str], statistics: Sequence[str], values: npt.NDArray[Any]
) -> dict[str, dict[str, float]]:
    """Return a table as a mapping of names to mappings of statistics to numbers."""
    # The detour over text gives the fewest digits that identify a float32 number: 0.1 instead of
    # 0.10000000149011612.
    short = values.astype(np.float32).astype("U").astype(np.float64).tolist()
    return {
        name: dict(zip(statistics, row, strict=True))
        for name, row in zip(names, short, strict=True)
    }
