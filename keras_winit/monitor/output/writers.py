"""Where records go: TensorBoard, JSON lines, CSV; one small interface."""

import csv
import gc
import html
import io
import itertools
import shlex
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from weakref import WeakValueDictionary

import numpy as np

from keras_winit.monitor.diagnosis.findings import describe_consequences, severities
from keras_winit.monitor.output.events import EventFile, Summary, tags
from keras_winit.monitor.output.log_file import LogFile, mend
from keras_winit.monitor.output.pictures import Album
from keras_winit.monitor.output.strict_json import dumps
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import is_before, split_call

Finding = Mapping[str, Any]

# Statistics that get curves in TensorBoard; its tab shows all.
CURVES = ("stddev", "dead_share", "saturated_share")
VARIABLE_CURVES = ("gradient_norm", "update_ratio")

# A layer's name must not become a link or an image in TensorBoard's Text tab.
MARKUP = {ord(character): f"&#{ord(character)};" for character in "|[]*_`\\"}

# The runs that have an open file: of two in one directory TensorBoard shows the newer.
BUSY: WeakValueDictionary[Path, "TensorBoardWriter"] = WeakValueDictionary()


class Writer(Protocol):
    """Takes what was measured somewhere.

    To write elsewhere, override `write`, and the others where there is something to do.
    """

    @abstractmethod
    def write(self, record: Record) -> None:
        """Take one record; steps ascend."""

    def write_findings(self, step: int, findings: Sequence[Finding]) -> None:
        """Take all findings so far, as mappings of names to plain values."""

    def flush(self) -> None:
        """Make durable what was taken."""

    def end(self) -> None:
        """The same at the end of a training, which another may follow."""
        self.flush()

    def close(self) -> None:
        """Let go of files; the next record opens them again."""


class _OneFile(Writer):
    """Opens its file at the first record, so that a monitor without one leaves no trace."""

    _file: Any = None

    def __init__(self, path: str | PathLike[str]) -> None:
        if not isinstance(path, str | PathLike):
            raise TypeError(f"`{type(self).__name__}` needs a path. Received: {path!r}.")
        self._given = str(path)
        # A program may go elsewhere while it trains.
        self._path = Path(path).absolute()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._given!r})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens a file of its own.
        return {**self.__dict__, "_file": None}

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


class TensorBoardWriter(_OneFile):
    """Writes what TensorBoard shows: tables for our tab, curves, histograms, findings, images.

    Everything goes into a run of its own, `<log_dir>/winit`, one event a record: beside the
    runs of `keras.callbacks.TensorBoard`, whose files a second writer would hide. For the same
    reason a second monitor gets `<log_dir>/winit_2` while there is the first one; one in
    another process needs another `log_dir`. TensorFlow is not loaded.

    The images are those of `keras_winit.plots`, made small: `winit/health`, and of records
    with histograms `winit/strips`. They are drawn at the end of a training, and at the end
    of an epoch if drawing has taken less than 1 % of the time. Without matplotlib there are
    none.

    Args:
        log_dir: A local directory; the same as that of `keras.callbacks.TensorBoard`.
        curves: Statistics that get curves: minimum, median and maximum over all layers
            under `winit`, and a curve for each layer under `winit_<statistic>`. Those that
            a record does not have, or that mean nothing for its layers, are skipped.
        variable_curves: The same for statistics of variables; a curve for each only.
        most: No curves for single layers (variables) if there are more than this;
            pre-activations do not count.
        images: Whether to draw.

    Raises:
        ValueError: At construction, if `log_dir` is not a local directory.
        ImportError: At the first record, if `tensorboard` is missing.
        OSError: At any record, if it cannot be written.

    Example:
        >>> writer = TensorBoardWriter("logs")
        >>> command, tab, charts = writer.instructions().splitlines()
        >>> print(command, "and open", tab)
        tensorboard --logdir logs and open http://localhost:6006/#keras_winit
    """

    def __init__(
        self,
        log_dir: str | PathLike[str],
        curves: Sequence[str] = CURVES,
        variable_curves: Sequence[str] = VARIABLE_CURVES,
        most: int = 64,
        images: bool = True,
    ) -> None:
        if "://" in str(log_dir):
            raise ValueError(
                "`TensorBoardWriter(log_dir=...)` must be a local directory. "
                f"Received: log_dir={str(log_dir)!r}."
            )
        super().__init__(log_dir)
        self._run = self._path / "winit"
        self._curves = tuple(curves)
        self._variable_curves = tuple(variable_curves)
        self._most = most
        self._known: set[str] = set()
        self._text = ""
        self._album = Album() if images else None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_known": set(), "_text": ""}

    def write(self, record: Record) -> None:
        summary = Summary(self._known)
        columns = dict(zip(record.statistics, record.values.T, strict=True))
        curves = {name: _spread(columns[name]) for name in self._curves if name in columns}
        # No empty chart of dead units where there are no rectifiers.
        summary.margins([name for name, spread in curves.items() if spread])
        if record.loss is not None:
            summary.scalar("winit/loss", record.loss)
        for name, spread in curves.items():
            for part, value in spread.items():
                summary.scalar(f"winit/{name}_{part}", value)
            self._each(summary, name, record.layers, columns[name])
        for name in self._variable_curves:
            if name in record.variable_statistics:
                column = record.variable_values[:, record.variable_statistics.index(name)]
                self._each(summary, name, record.variables, column)
        # A table without rows or columns would be an empty page.
        if record.values.size:
            summary.table("layers", record.layers, record.statistics, record.values)
        if record.variable_values.size:
            summary.table(
                "variables", record.variables, record.variable_statistics, record.variable_values
            )
        if record.counts.size:
            for tag, counts in zip(tags(record.layers), record.counts, strict=True):
                summary.histogram(f"winit_hist/{tag}", record.edges, counts)
        self._write(record.step, summary)
        if self._album is not None:
            if self._album.records and record.step <= self._album.records[-1].step:
                self._album = Album()  # Of another model.
            self._album.add(record)

    def write_findings(self, step: int, findings: Sequence[Finding]) -> None:
        self._write(step, self._told(findings))
        if self._album is not None:
            self._album.findings = findings

    def flush(self) -> None:
        self._draw()
        with self._sound():
            super().flush()

    def end(self) -> None:
        self._draw(ended=True)
        self.flush()

    def close(self) -> None:
        self._draw(closed=True)
        if BUSY.get(self._run) is self:
            del BUSY[self._run]
        super().close()
        self._known.clear()
        self._text = ""

    def instructions(self, address: str = "http://localhost:6006") -> str:
        """How to look: the command, the address of the tab, that of the pinned charts."""
        names = [f"winit/{name}_{part}" for name in self._curves for part in ("median", "max")]
        cards = dumps([{"plugin": "scalars", "tag": name} for name in names])
        pinned = quote(cards.replace(" ", ""))
        return (
            f"tensorboard --logdir {shlex.quote(self._given)}\n"
            f"{address}/#keras_winit\n{address}/?pinnedCards={pinned}#timeseries"
        )

    def _told(self, findings: Sequence[Finding]) -> Summary:
        summary = Summary(self._known)
        summary.record("winit/findings", findings)
        text = _markdown(findings)
        if text != self._text:
            self._text = text
            summary.text("winit/findings_text", text)
        summary.scalar("winit/layers_with_findings", len(severities(findings)))
        return summary

    def _each(self, summary: Summary, name: str, rows: Sequence[str], column: Any) -> None:
        if sum(not is_before(row) for row in rows) <= self._most:
            for tag, value in zip(tags(rows), column, strict=True):
                summary.scalar(f"winit_{name}/{tag}", value)

    def _draw(self, ended: bool = False, closed: bool = False) -> None:
        """Pictures, if it is time for them; whatever fails, the rest goes on."""
        album = self._album
        if album is None or not album.is_due(ended, closed):
            return
        try:
            summary = Summary(self._known)
            for tag, png in album.draw().items():
                summary.image(tag, png)
            if summary.proto.value:
                self._write(album.records[-1].step, summary)
        except Exception as error:
            self._album = None
            # It is an extra.
            if not isinstance(error, ModuleNotFoundError):
                warnings.warn(
                    f"`{self!r}` draws no more, the rest goes on. Received: "
                    f"{type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=3,
                )

    def _write(self, step: int, summary: Summary) -> None:
        with self._sound():
            if self._file is None:
                self._run = self._free_run()
                again = step == 0 and any(self._run.glob("events.out.tfevents.*"))
                self._file = EventFile(self._run, step)
                if again:
                    # TensorBoard would go on showing what the run before has found.
                    self._file.write(step, self._told(()))
            BUSY.setdefault(self._run, self)
            self._file.write(step, summary)

    def _free_run(self) -> Path:
        """Where no other writer is at work."""
        if self._path / "winit" in BUSY:
            # Of a monitor maybe that nobody has any more.
            gc.collect()
        names = itertools.chain(["winit"], (f"winit_{number}" for number in itertools.count(2)))
        runs = (self._path / name for name in names)
        return next(run for run in runs if BUSY.get(run, self) is self)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Where the file fails, no picture goes there either."""
        try:
            yield
        except OSError:
            self._album = None
            raise


def _spread(column: Any) -> dict[str, float]:
    """Of what is not NaN; empty if all is."""
    values = column[~np.isnan(column)]
    if not len(values):
        return {}
    return {"min": values.min(), "median": np.median(values), "max": values.max()}


def _markdown(findings: Sequence[Finding]) -> str:
    """A heading and a list for each finding: cells of a table would be a letter wide."""
    parts = []
    for finding in findings:
        names = (_plain(finding.get(name, "")) for name in ("severity", "rule", "layer"))
        heading = "#### {}: {} in {}".format(*names)
        number = f"{finding['value']:.3g}" if "value" in finding else ""
        told = {
            "since step": finding.get("first_step", ""),
            "value": number,
            "why": finding.get("cause", ""),
            "try": finding.get("remedy", ""),
            "hence": describe_consequences(
                (one["rule"], one["layer"]) for one in finding.get("consequences", ())
            ),
        }
        lines = [f"- {name}: {_plain(text)}" for name, text in told.items() if text != ""]
        parts.append("\n".join([heading, "", *lines]))
    return "\n\n".join(parts) or "nothing was found"


def _plain(value: Any) -> str:
    """On one line, and without what would be markup."""
    return html.escape(" ".join(str(value).split())).translate(MARKUP)


class JsonLinesWriter(_OneFile):
    """Writes one JSON object a line, a line a record; a resumed run goes on in the file.

    A record: `{"kind": "sample", "step": 7, "loss": 0.3, "layers": {"dense": {"stddev": 1.0,
    ...}, ...}, "variables": {"dense/kernel": {"gradient_norm": 0.1, ...}, ...}}`, and where
    there are histograms `"edges": [...], "counts": {"dense": [...], ...}`. Findings:
    `{"kind": "findings", "step": 7, "findings": [...]}`. NaN, and a loss that is not known, is
    null, infinities are the strings "inf" and "-inf". A run that resumes from an earlier step
    writes steps again: the last one counts.

    Args:
        path: Of the file. A last line that a killed process left unfinished is cut off.

    Raises:
        OSError: At any record, if it cannot be written, or if the file is something else.
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
        self._write(line)

    def write_findings(self, step: int, findings: Sequence[Finding]) -> None:
        self._write({"kind": "findings", "step": step, "findings": findings})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            mend(self._path, b'{"kind": ')
            self._file = LogFile(self._path)
        self._file.write(dumps(line).encode() + b"\n")


def _nested(rows: Sequence[str], columns: Sequence[str], values: Any) -> dict[str, Any]:
    short = _shortest(values)
    return {
        row: dict(zip(columns, line, strict=True)) for row, line in zip(rows, short, strict=True)
    }


def _shortest(values: Any) -> Any:
    """As Python floats with the digits a float32 has: 0.1 instead of 0.10000000149011612."""
    return values.astype(np.float32).astype("U").astype(np.float64).tolist()


class CsvWriter(_OneFile):
    """Writes a row for each number: step, layer, call, statistic, value.

    `layer` is the name of a layer, with `:1` for a second output and `.pre` for a
    pre-activation, of a variable (then `call` is empty), or empty for the loss. `call` is
    2 for the second call of a layer in one step. Values may be `nan`, `inf` and `-inf`, as
    pandas and Python read them. Neither histograms nor findings fit into such rows. A run
    that resumes goes on in the file; steps that it writes again are there twice, the last
    one counts.

    Args:
        path: Of the file. A last row that a killed process left unfinished is cut off.

    Raises:
        OSError: At any record, if it cannot be written, or if the file is something else.
    """

    header = ("step", "layer", "call", "statistic", "value")

    def write(self, record: Record) -> None:
        if self._file is None:
            header = _rows([self.header])
            resumed = mend(self._path, header)
            self._file = LogFile(self._path)
            if not resumed:
                self._file.write(header)
        rows: list[tuple[Any, ...]] = []
        if record.loss is not None:
            rows.append((record.step, "", "", "loss", record.loss))
        for site, line in zip(record.layers, record.values, strict=True):
            layer, call = split_call(site)
            for name, value in zip(record.statistics, line, strict=True):
                rows.append((record.step, layer, call, name, value))
        for path, line in zip(record.variables, record.variable_values, strict=True):
            for name, value in zip(record.variable_statistics, line, strict=True):
                rows.append((record.step, path, "", name, value))
        self._file.write(_rows(rows))


def _rows(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    # A line break within a name would look like the end of a row to `mend`.
    csv.writer(text, lineterminator="\n").writerows(
        [" ".join(str(cell).splitlines()) for cell in row] for row in rows
    )
    return text.getvalue().encode(errors="replace")
