"""Writes records, findings and images to a run of TensorBoard."""

import gc
import itertools
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

from keras_winit.monitor.output.append_only_file import is_open_for_writing
from keras_winit.monitor.output.curves import CURVES, VARIABLE_CURVES, curve_points
from keras_winit.monitor.output.events import EventFile, SummaryBuilder, sortable_tags
from keras_winit.monitor.output.findings_markdown import findings_markdown
from keras_winit.monitor.output.images import ImageAlbum
from keras_winit.monitor.output.strict_json import dumps
from keras_winit.monitor.output.writers.writer import FileWriter, FindingFields
from keras_winit.monitor.records import Record
from keras_winit.monitor.warning import warn
from keras_winit.plots.findings import worst_severities

# The writer with an open file in each run directory. A run needs a directory of its own, as
# TensorBoard shows only the newest file of a directory to which several are written at once.
OPEN_RUNS: WeakValueDictionary[Path, "TensorBoardWriter"] = WeakValueDictionary()


class TensorBoardWriter(FileWriter):
    """Writes tables for our tab, curves, histograms, findings and images for TensorBoard.

    The writer makes a run of its own, `<log_dir>/winit`, with one event for each record.
    TensorBoard shows it beside the runs of `keras.callbacks.TensorBoard`, whose files a second
    writer in the same directory would hide. For the same reason a second monitor, also one in
    another process, gets `<log_dir>/winit_2` while the first one is open. TensorFlow is not
    loaded.

    The images are small versions of those of `keras_winit.plots`: `winit/health`, and
    `winit/strips` if the records have histograms. They are drawn at the end of a training, and
    at the end of an epoch if drawing has taken less than 1 % of the time. Without matplotlib
    there are no images.

    Args:
        log_dir: A local directory; the same as that of `keras.callbacks.TensorBoard`.
        curves: Names of layer statistics that get curves: minimum, median and maximum over all
            layers under `winit`, and one curve for each layer under `winit_<statistic>`.
            Statistics that a record does not have, or that apply to none of its layers, are
            skipped. Defaults to "stddev", "dead_share" and "saturated_share".
        variable_curves: Names of variable statistics that get one curve for each variable.
            Defaults to "gradient_norm" and "update_ratio".
        max_curves: Largest number of layers (or variables) that get curves of their own; if there
            are more, none does. Pre-activations do not count. Defaults to 64.
        images: Whether to draw images. Defaults to True.

    Raises:
        TypeError: At construction, if `log_dir` is not a path.
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
        max_curves: int = 64,
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
        self._max_curves = max_curves
        self._described_tags: set[str] = set()
        self._written_markdown = ""
        # The file of the last training, closed.
        self._ended_file: EventFile | None = None
        self._album = ImageAlbum() if images else None

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "_described_tags": set(),
            "_written_markdown": "",
            "_ended_file": None,
        }

    def write(self, record: Record) -> None:
        summary = self._new_summary()
        self._add_curves(summary, record)
        # Our tab would show a table without rows or columns as an empty page.
        if record.values.size:
            summary.add_table("layers", record.layers, record.statistics, record.values)
        if record.variable_values.size:
            summary.add_table(
                "variables", record.variables, record.variable_statistics, record.variable_values
            )
        if record.counts.size:
            for tag, counts in zip(sortable_tags(record.layers), record.counts, strict=True):
                summary.add_histogram(f"winit_hist/{tag}", record.edges, counts)
        self._write_event(record.step, summary)
        if self._album is not None:
            if self._album.records and record.step <= self._album.records[-1].step:
                self._album = ImageAlbum()  # The record is of another model.
            self._album.add(record)

    def write_findings(self, step: int, findings: Sequence[FindingFields]) -> None:
        self._write_event(step, self._findings_summary(findings))
        if self._album is not None:
            self._album.findings = findings

    def flush(self) -> None:
        self._write_images_if_due()
        with self._no_images_after_error():
            super().flush()

    def end(self) -> None:
        self._write_images_if_due(ended=True)
        self.flush()
        if self._file is not None:
            # The next training appends to the same file, as each file of a run costs time to load.
            self._file.close()
            self._ended_file, self._file = self._file, None

    def close(self) -> None:
        self._write_images_if_due(closed=True)
        if OPEN_RUNS.get(self._run) is self:
            del OPEN_RUNS[self._run]
        super().close()
        self._forget_file()

    def _forget_file(self) -> None:
        self._ended_file = None
        self._described_tags.clear()
        self._written_markdown = ""

    def instructions(self, address: str = "http://localhost:6006") -> str:
        """Tell how to view the run.

        Args:
            address: Address of TensorBoard.

        Returns:
            Three lines: the command that starts TensorBoard, the address of our tab, and an
            address that pins the curves over all layers.
        """
        names = [f"winit/{name}_{part}" for name in self._curves for part in ("median", "max")]
        cards = dumps([{"plugin": "scalars", "tag": name} for name in names])
        pinned = quote(cards.replace(" ", ""))
        return (
            f"tensorboard --logdir {shlex.quote(self._given_path)}\n"
            f"{address}/#keras_winit\n{address}/?pinnedCards={pinned}#timeseries"
        )

    def _new_summary(self) -> SummaryBuilder:
        # Another run may have come between two trainings, or the directory was deleted.
        ended = self._ended_file
        if ended is not None and not (ended.is_newest() and _is_free(self._run)):
            self._forget_file()
        return SummaryBuilder(self._described_tags)

    def _add_curves(self, summary: SummaryBuilder, record: Record) -> None:
        points = curve_points(record, self._curves, self._variable_curves, self._max_curves)
        # A model without rectifiers gets no empty chart of dead units.
        summary.add_margin_charts([n for n in self._curves if f"winit/{n}_median" in points])
        for tag, value in points.items():
            summary.add_scalar(tag, value)

    def _findings_summary(self, findings: Sequence[FindingFields]) -> SummaryBuilder:
        summary = self._new_summary()
        summary.add_findings(findings)
        markdown = findings_markdown(findings)
        if markdown != self._written_markdown:
            self._written_markdown = markdown
            summary.add_text("winit/findings_text", markdown)
        summary.add_scalar("winit/layers_with_findings", len(worst_severities(findings)))
        return summary

    def _write_images_if_due(self, ended: bool = False, closed: bool = False) -> None:
        """Draw and write images; if that fails, draw no more but write everything else."""
        album = self._album
        if album is None or not album.is_due(ended, closed):
            return
        try:
            summary = self._new_summary()
            for tag, png in album.draw().items():
                summary.add_image(tag, png)
            if summary.proto.value:
                self._write_event(album.records[-1].step, summary)
        except Exception as error:
            self._album = None
            # Images are optional: a missing matplotlib is no reason for a warning.
            if not isinstance(error, ModuleNotFoundError):
                warn(
                    f"`{self!r}` draws no more images and writes everything else. Received: "
                    f"{type(error).__name__}: {error}",
                    stacklevel=3,
                )

    def _write_event(self, step: int, summary: SummaryBuilder) -> None:
        with self._no_images_after_error():
            if self._file is None:
                self._open(step)
            OPEN_RUNS.setdefault(self._run, self)
            self._file.write(step, summary)

    def _open(self, step: int) -> None:
        """Open the file of the previous training, or a new one."""
        ended = self._ended_file
        if ended is not None:
            ended.reopen()
            self._file, self._ended_file = ended, None
            return
        self._run = self._free_run()
        replaces_run = step == 0 and any(self._run.glob("events.out.tfevents.*"))
        self._file = EventFile(self._run, step)
        if replaces_run:
            # TensorBoard would go on showing the findings of the earlier run.
            self._file.write(step, self._findings_summary(()))

    def _free_run(self) -> Path:
        """Return the first run directory in which no other writer has an open file."""
        if self._path / "winit" in OPEN_RUNS:
            # Its writer may belong to a monitor that is no longer referenced.
            gc.collect()
        names = itertools.chain(["winit"], (f"winit_{number}" for number in itertools.count(2)))
        runs = (self._path / name for name in names)
        return next(run for run in runs if OPEN_RUNS.get(run, self) is self and _is_free(run))

    @contextmanager
    def _no_images_after_error(self) -> Iterator[None]:
        """Draw no more images once the file cannot be written."""
        try:
            yield
        except OSError:
            self._album = None
            raise


def _is_free(run: Path) -> bool:
    """Return whether no other process writes to a run directory."""
    return not any(map(is_open_for_writing, run.glob("events.out.tfevents.*")))
