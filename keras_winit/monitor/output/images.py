"""Images for TensorBoard: keeps the records they show, and draws within a budget of time."""

import io
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit import plots
from keras_winit.monitor.records import Record

# Largest number of records, each a column of an image.
MAX_RECORDS = 200

# Largest share of the time since the first record that drawing may take.
TIME_SHARE = 0.01

# Expected duration of the first drawing, in seconds.
FIRST_DURATION = 1.0


class ImageAlbum:
    """Holds the records of a run, decides when images of them are due, and draws these.

    The number of records is bounded: when there are too many, every other one is dropped. The
    latest one is always there.
    """

    def __init__(self) -> None:
        self.findings: Sequence[Mapping[str, Any]] = ()
        self._kept: list[Record] = []
        self._latest: Record | None = None
        # Every `_stride`-th record is kept.
        self._stride = 1
        # Number of records so far, and at the last drawing.
        self._count = self._drawn_count = 0
        # Start of the run, time spent drawing, expected time of the next drawing, in seconds.
        self._start = self._spent = 0.0
        self._duration = FIRST_DURATION

    @property
    def records(self) -> list[Record]:
        """The records that an image shows."""
        if self._latest is None or self._kept[-1] is self._latest:
            return [*self._kept]
        return [*self._kept, self._latest]

    def add(self, record: Record) -> None:
        """Add a record."""
        if self._count == 0:
            self._start = time.perf_counter()
        if self._count % self._stride == 0:
            self._kept.append(record)
        if len(self._kept) == MAX_RECORDS:
            self._kept = self._kept[::2]
            self._stride *= 2
        self._latest = record
        self._count += 1

    def is_due(self, ended: bool = False, closed: bool = False) -> bool:
        """Return whether it is time to draw the new records.

        Args:
            ended: Whether a training has ended. Images are due then if there are at least
                twice as many records as at the last drawing: a short run gets its images,
                many short runs in a loop only a few.
            closed: Whether no record will follow. Images are due then if any record is new.
        """
        if self._count == self._drawn_count:
            return False
        if closed or (ended and self._count >= 2 * self._drawn_count):
            return True
        elapsed = time.perf_counter() - self._start
        return self._spent + self._duration < TIME_SHARE * elapsed

    def draw(self) -> dict[str, bytes]:
        """Draw the images that the records allow; without histograms there are no strips.

        Returns:
            PNG files by their tags.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        start = time.perf_counter()
        self._drawn_count = self._count
        try:
            return self._draw()
        finally:
            self._duration = time.perf_counter() - start
            self._spent += self._duration

    def _draw(self) -> dict[str, bytes]:
        images = {}
        with warnings.catch_warnings():
            # Matplotlib warns of characters that its font lacks.
            warnings.simplefilter("ignore")
            for tag, plot in (("winit/health", plots.health), ("winit/strips", plots.strips)):
                try:
                    figure = plot(self.records, findings=self.findings, small=True)
                except plots.Unmeasured:
                    continue
                png = io.BytesIO()
                figure.savefig(png, format="png", dpi=figure.dpi)
                images[tag] = png.getvalue()
        return images
