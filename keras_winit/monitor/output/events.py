"""What TensorBoard reads: summaries, events and records, made of its own building blocks.

`tensorboard`'s protocol buffers and record format need no TensorFlow, cost 0.1 s to import,
and leave the file to us. TensorFlow's writer (`write_raw_pb`) takes seconds to import and may
claim the GPU under JAX or PyTorch, and says nothing of a full disk or a deleted directory.
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

from keras_winit.monitor.output.log_file import LogFile
from keras_winit.monitor.output.strict_json import dumps

PLUGIN = "keras_winit"

# Of the JSON that describes a table to the tab.
VERSION = 1

# Characters of a layer's name that a tag keeps, from its end.
NAME = 60


def tags(names: Sequence[str]) -> list[str]:
    """A tag for each name, that sorts in this order: `003_block1_conv2`.

    TensorBoard groups by the text before the first "/" and sorts by the alphabet.
    """
    short = (re.sub(r"[^\w.:@-]", "_", name)[-NAME:] for name in names)
    digits = max(3, len(str(len(names) - 1)))
    return [f"{i:0{digits}d}_{name}" for i, name in enumerate(short)]


class Summary:
    """Values of one step, under way into one event.

    Args:
        known: Tags whose first value is in the file already; grows. A tag's first value
            carries what TensorBoard must know of it.

    Raises:
        ImportError: If `tensorboard` is missing or does not work.
    """

    def __init__(self, known: set[str]) -> None:
        try:
            from tensorboard.compat.proto import summary_pb2
            from tensorboard.util import tensor_util
        except ModuleNotFoundError as error:
            raise ImportError("it needs tensorboard: pip install tensorboard") from (error)
        except Exception as error:  # Such as a `protobuf` of another generation.
            raise ImportError(f"tensorboard cannot be imported, {error}") from error
        self._known = known
        self._metadata = summary_pb2.SummaryMetadata
        self._tensor = tensor_util.make_tensor_proto
        self.proto = summary_pb2.Summary()

    def scalar(self, tag: str, value: float) -> None:
        """A point of a curve; no point if it is NaN."""
        if not np.isnan(value):
            self.proto.value.add(tag=tag, simple_value=float(value))

    def histogram(self, tag: str, edges: Any, counts: Any) -> None:
        """Ready counts, from the first to the last bin that holds something."""
        (filled,) = np.nonzero(counts)
        if len(filled):
            used = slice(filled[0], filled[-1] + 1)
            left, right = edges[:-1][used], edges[1:][used]
            rows = np.stack([left, right, counts[used]], axis=1)
            # TensorBoard takes float64 as well, at twice the price of the checksum.
            self._add(tag, rows.astype(np.float32), "histograms", b"")

    def text(self, tag: str, markdown: str) -> None:
        self._add(tag, markdown.encode(errors="replace"), "text", b"")

    def image(self, tag: str, png: bytes) -> None:
        """A picture; the start of a PNG tells its size."""
        size = (str(int.from_bytes(png[at : at + 4])).encode() for at in (16, 20))
        self._add(tag, [*size, png], "images", b"", blobs=True)

    def table(
        self, kind: str, rows: Sequence[str], columns: Sequence[str], values: npt.NDArray[Any]
    ) -> None:
        """A whole table in one tensor, for the tab.

        The tag ends in a digest of the names: a run that is resumed with another model gets
        a table of its own instead of one under wrong names.
        """
        names = {"rows": list(rows), "tags": tags(rows), "columns": list(columns)}
        content = json.dumps({"version": VERSION, "kind": kind, **names}).encode()
        digest = hashlib.sha256(content).hexdigest()[:8]
        self._add(f"winit/{kind}/{digest}", values.astype(np.float32), PLUGIN, content)

    def record(self, tag: str, value: Any) -> None:
        """Anything that JSON can hold, for the tab."""
        content = json.dumps({"version": VERSION, "kind": "findings"}).encode()
        self._add(tag, dumps(value).encode(), PLUGIN, content)

    def margins(self, names: Sequence[str]) -> None:
        """A chart for each name in the Custom Scalars tab: the median in its band."""
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

        if not names or metadata.CONFIG_SUMMARY_TAG in self._known:
            return
        charts = []
        for name in names:
            lower, value, upper = (f"winit/{name}_{part}" for part in ("min", "median", "max"))
            series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
            content = layout_pb2.MarginChartContent(series=[series])
            charts.append(layout_pb2.Chart(title=f"{name} over the layers", margin=content))
        category = layout_pb2.Category(title="winit", chart=charts)
        layout = layout_pb2.Layout(category=[category]).SerializeToString()
        self._add(metadata.CONFIG_SUMMARY_TAG, layout, metadata.PLUGIN_NAME, b"")

    def _add(self, tag: str, value: Any, plugin: str, content: bytes, blobs: bool = False) -> None:
        metadata = None
        if tag not in self._known:
            self._known.add(tag)
            data = self._metadata.PluginData(plugin_name=plugin, content=content)
            # DATA_CLASS_BLOB_SEQUENCE, _TENSOR: TensorBoard guesses them for its own plugins only.
            metadata = self._metadata(plugin_data=data, data_class=3 if blobs else 2)
        self.proto.value.add(tag=tag, tensor=self._tensor(value), metadata=metadata)


class EventFile:
    """A new event file in a directory, readable at any moment.

    Args:
        directory: Made if it is missing.
        step: At which this process starts: a resumed run takes the place of what a killed
            one had written from there on.

    Raises:
        OSError: If the file cannot be made.
        ImportError: If `tensorboard` is missing.
    """

    def __init__(self, directory: Path, step: int) -> None:
        from tensorboard.compat.proto import event_pb2

        self._event = event_pb2.Event
        second, rest = divmod(time.time_ns(), 10**9)
        # Directories are read in the order of names: that of time, over all processes.
        name = f"events.out.tfevents.{second:010d}.{rest:09d}.{socket.gethostname()}.{os.getpid()}"
        self._file = LogFile(directory / name, new=True)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(file_version="brain.Event:2")
        self._write(step=step, session_log=start)

    def write(self, step: int, summary: Summary) -> None:
        """Append one event.

        Raises:
            OSError: As `LogFile`.
        """
        self._write(step=step, summary=summary.proto)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, **content: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        buffer = io.BytesIO()
        event = self._event(wall_time=time.time(), **content)
        RecordWriter(buffer).write(event.SerializeToString())
        self._file.write(buffer.getvalue())
