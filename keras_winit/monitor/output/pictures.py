"""Pictures for TensorBoard, drawn now and then for next to no time."""

import io
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from keras_winit.monitor.records import Record

# Steps that a picture shows, at most.
COLUMNS = 200

# Of the time since the first record, what drawing may take; and what the first picture takes.
SHARE = 0.01
FIRST = 1.0


class Album:
    """What the pictures of a run need, in bounded memory, and when it is time for them.

    Steps are thinned out evenly as they become many; the last one stays.
    """

    def __init__(self) -> None:
        self.findings: Sequence[Mapping[str, Any]] = ()
        self._kept: list[Record] = []
        self._last: Record | None = None
        # Between those that are kept.
        self._apart = 1
        self._count = self._drawn = 0
        self._began = self._spent = 0.0
        self._cost = FIRST

    @property
    def records(self) -> list[Record]:
        """What a picture shows."""
        last = [] if self._last is None or self._kept[-1] is self._last else [self._last]
        return self._kept + last

    def add(self, record: Record) -> None:
        """Take one more record."""
        if self._count == 0:
            self._began = time.perf_counter()
        if self._count % self._apart == 0:
            self._kept.append(record)
        if len(self._kept) == COLUMNS:
            self._kept = self._kept[::2]
            self._apart *= 2
        self._last = record
        self._count += 1

    def is_due(self, ended: bool = False, closed: bool = False) -> bool:
        """Whether it is time to draw what is new.

        Args:
            ended: Whether a training has. Then there is a picture if the records are twice
                those of the last one: the only one of a short run, but few in a loop.
            closed: Whether nothing follows. Then whatever is new is drawn.
        """
        if self._count == self._drawn:
            return False
        if closed or (ended and self._count >= 2 * self._drawn):
            return True
        elapsed = time.perf_counter() - self._began
        return self._spent + self._cost < SHARE * elapsed

    def draw(self) -> dict[str, bytes]:
        """Pictures as PNG, by their tags; no histograms, no strips.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        began = time.perf_counter()
        self._drawn = self._count
        try:
            return self._draw()
        finally:
            self._cost = time.perf_counter() - began
            self._spent += self._cost

    def _draw(self) -> dict[str, bytes]:
        from keras_winit import plots

        pictures = {}
        with warnings.catch_warnings():
            # Of letters that the font lacks.
            warnings.simplefilter("ignore")
            for tag, kind in (("winit/health", plots.health), ("winit/strips", plots.strips)):
                try:
                    picture = kind(self.records, findings=self.findings, small=True)
                except plots.Unmeasured:
                    continue
                png = io.BytesIO()
                picture.savefig(png, format="png", dpi=picture.dpi)
                pictures[tag] = png.getvalue()
        return pictures
