"""Writes records to a CSV file with one row for each number."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from keras_winit.monitor.output.append_only_file import AppendOnlyFile, cut_unfinished_line
from keras_winit.monitor.output.long_format import FIELDS, long_rows
from keras_winit.monitor.output.writers.writer import FileWriter
from keras_winit.monitor.records import Record


class CsvWriter(FileWriter):
    """Writes a row for each number: step, layer, call, statistic, value.

    `layer` is the name of a layer, with `:1` for its second output and `.pre` for its
    pre-activation; or the name of a variable; or empty for the loss. `call` is 2 for the
    layer's second call in one step, and empty for a variable or the loss. `value` may be
    `nan`, `inf` or `-inf`, which pandas and Python read. Histograms and findings are not
    written.

    A resumed run appends to the file. If it starts from an earlier step, some steps are there
    twice; the last one counts.

    Args:
        path: Path of the file. A last row that a killed process left unfinished is removed.

    Raises:
        TypeError: At construction, if `path` is not a path.
        OSError: At a record, if the file cannot be written or is not a file of this writer.
    """

    def write(self, record: Record) -> None:
        if self._file is None:
            header = _encode([FIELDS])
            has_header = cut_unfinished_line(self._path, header)
            self._file = AppendOnlyFile(self._path)
            if not has_header:
                self._file.write(header)
        self._file.write(
            _encode(
                (step, name or "", call or "", statistic, value)
                for step, name, call, statistic, value in long_rows(record)
            )
        )


def _encode(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    # A line break within a name would look like the end of a row to `cut_unfinished_line`.
    csv.writer(text, lineterminator="\n").writerows(
        [" ".join(str(cell).splitlines()) for cell in row] for row in rows
    )
    return text.getvalue().encode(errors="replace")
