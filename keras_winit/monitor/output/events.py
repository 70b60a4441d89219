"""TensorBoard event files, written without TensorFlow.

The protocol buffers and the record format of the package `tensorboard` take 0.1 s to import
and let us handle the file ourselves. TensorFlow's writer (`write_raw_pb`) takes seconds to
import, may claim the GPU under JAX or PyTorch, and does not report a full disk or a deleted
directory.
"""

import hashlib
import io
import json
import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_winit.monitor.output.append_only_file import AppendOnlyFile
from keras_winit.monitor.output.strict_json import dumps

PLUGIN = "keras_winit"

# Version of the JSON that describes a table or the findings to our tab.
VERSION = 1

# A tag keeps this many characters of a name, from its end.
MAX_NAME_LENGTH = 60


def sortable_tags(names: Sequence[str]) -> list[str]:
    """Return a tag such as `003_block1_conv2` for each name; the tags sort in the same order.

    TensorBoard sorts tags alphabetically, and groups them by the text before the first "/".
    """
    short = (re.sub(r"[^\w.:@-]", "_", name)[-MAX_NAME_LENGTH:] for name in names)
    digits = max(3, len(str(len(names) - 1)))
    return [f"{i:0{digits}d}_{name}" for i, name in enumerate(short)]


class SummaryBuilder:
    """Collects values of one step for one event.

    Args:
        described_tags: Tags whose first value is already in the file; new tags are added. Only
            the first value of a tag carries its metadata, such as the plugin that shows it.

    Raises:
        ImportError: If `tensorboard` is missing or cannot be imported.
    """

    def __init__(self, described_tags: set[str]) -> None:
        try:
            from tensorboard.compat.proto import summary_pb2
            from tensorboard.util import tensor_util
        except ModuleNotFoundError as error:
            raise ImportError(
                "`TensorBoardWriter` needs tensorboard: pip install tensorboard"
            ) from error
        except Exception as error:
            # An incompatible `protobuf`, for example, raises a TypeError.
            raise ImportError(f"tensorboard cannot be imported, {error}") from error
        self._described_tags = described_tags
        self._pb2 = summary_pb2
        self._make_tensor_proto = tensor_util.make_tensor_proto
        self.proto = summary_pb2.Summary()

    def add_scalar(self, tag: str, value: float) -> None:
        """Add a point of a curve."""
        self.proto.value.add(tag=tag, simple_value=value)

    def add_histogram(self, tag: str, edges: Any, counts: Any) -> None:
        """Add the bins from the first to the last that is not empty.

        Args:
            tag: Tag of the histogram.
            edges: Edges of the B bins, of shape (B + 1,).
            counts: Number of entries in each bin, of shape (B,).
        """
        (filled,) = np.nonzero(counts)
        if len(filled):
            used = slice(filled[0], filled[-1] + 1)
            left, right = edges[:-1][used], edges[1:][used]
            rows = np.stack([left, right, counts[used]], axis=1)
            # TensorBoard also reads float64, but then the checksum takes twice as long.
            self._add_tensor(tag, rows.astype(np.float32), "histograms")

    def add_text(self, tag: str, markdown: str) -> None:
        self._add_tensor(tag, markdown.encode(errors="replace"), "text")

    def add_image(self, tag: str, png: bytes) -> None:
        """Add a PNG image with its width and height, which are bytes 16 to 23 of the file."""
        size = [str(int.from_bytes(png[start : start + 4])).encode() for start in (16, 20)]
        self._add_tensor(tag, [*size, png], "images", is_blob_sequence=True)

    def add_table(
        self, kind: str, rows: Sequence[str], columns: Sequence[str], values: npt.NDArray[Any]
    ) -> None:
        """Add a whole table as one tensor, for our tab.

        The tag ends in a digest of the names of rows and columns. If a run is resumed with
        another model, the new table gets a tag of its own and not the old names.

        Args:
            kind: "layers" or "variables".
            rows: Names of the R rows.
            columns: Names of the C columns.
            values: Array of shape (R, C).
        """
        names = {"rows": list(rows), "tags": sortable_tags(rows), "columns": list(columns)}
        description = json.dumps({"version": VERSION, "kind": kind, **names}).encode()
        digest = hashlib.sha256(description).hexdigest()[:8]
        tag = f"winit/{kind}/{digest}"
        self._add_tensor(tag, values.astype(np.float32), PLUGIN, description)

    def add_findings(self, findings: Any) -> None:
        """Add findings as JSON, for our tab."""
        description = json.dumps({"version": VERSION, "kind": "findings"}).encode()
        self._add_tensor("winit/findings", dumps(findings).encode(), PLUGIN, description)

    def add_margin_charts(self, statistics: Sequence[str]) -> None:
        """Add a chart for each statistic to the Custom Scalars tab, once for each file.

        A chart shows the median over all layers within the band from minimum to maximum.
        """
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

        if not statistics or metadata.CONFIG_SUMMARY_TAG in self._described_tags:
            return
        charts = []
        for name in statistics:
            lower, value, upper = (f"winit/{name}_{part}" for part in ("min", "median", "max"))
            series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
            content = layout_pb2.MarginChartContent(series=[series])
            charts.append(layout_pb2.Chart(title=f"{name} over the layers", margin=content))
        category = layout_pb2.Category(title="winit", chart=charts)
        layout = layout_pb2.Layout(category=[category]).SerializeToString()
        self._add_tensor(metadata.CONFIG_SUMMARY_TAG, layout, metadata.PLUGIN_NAME)

    def _add_tensor(
        self,
        tag: str,
        value: Any,
        plugin: str,
        description: bytes = b"",
        is_blob_sequence: bool = False,
    ) -> None:
        metadata = None
        if tag not in self._described_tags:
            self._described_tags.add(tag)
            pb2 = self._pb2
            # TensorBoard knows the data class of its own plugins only.
            data_class = pb2.DATA_CLASS_BLOB_SEQUENCE if is_blob_sequence else pb2.DATA_CLASS_TENSOR
            metadata = pb2.SummaryMetadata(
                plugin_data=pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=description),
                data_class=data_class,
            )
        tensor = self._make_tensor_proto(value)
        self.proto.value.add(tag=tag, tensor=tensor, metadata=metadata)


class EventFile:
    """A new event file in a directory, readable at any moment.

    Args:
        directory: Directory of the run, created if it is missing.
        step: First step of this process. TensorBoard ignores what earlier files of the run
            hold from this step on, so that a resumed run replaces what it repeats.

    Raises:
        OSError: If the file cannot be created.
        ImportError: If `tensorboard` is missing.
    """

    def __init__(self, directory: Path, step: int) -> None:
        from tensorboard.compat.proto import event_pb2

        self._event = event_pb2.Event
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        # TensorBoard reads the files of a run in the order of their names, hence of time, also
        # across processes.
        time_stamp = f"{seconds:010d}.{nanoseconds:09d}"
        name = f"events.out.tfevents.{time_stamp}.{socket.gethostname()}.{os.getpid()}"
        self._path = directory / name
        self._file = AppendOnlyFile(self._path, new=True)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write_event(file_version="brain.Event:2")
        self._write_event(step=step, session_log=start)

    def write(self, step: int, summary: SummaryBuilder) -> None:
        """Append one event.

        Raises:
            OSError: As `AppendOnlyFile.write`.
        """
        self._write_event(step=step, summary=summary.proto)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def is_newest(self) -> bool:
        """Return whether the file is there and the newest of its run, the one that may grow."""
        return self._path == max(self._path.parent.glob("events.out.tfevents.*"), default=None)

    def reopen(self) -> None:
        """Open the closed file again, to append to it.

        Raises:
            OSError: If the file cannot be opened.
        """
        self._file = AppendOnlyFile(self._path)

    def _write_event(self, **content: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        buffer = io.BytesIO()
        event = self._event(wall_time=time.time(), **content)
        RecordWriter(buffer).write(event.SerializeToString())
        self._file.write(buffer.getvalue())
