"""The `Writer` interface, and the base of writers that keep one file open."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_winit.monitor.records import Record

# The fields of a `keras_winit.monitor.Finding` as plain values, by name.
FindingFields = Mapping[str, Any]


class Writer(ABC):
    """Writes records and findings somewhere.

    To write to a place of your own, subclass this and override `write`; the other methods are
    optional.
    """

    @abstractmethod
    def write(self, record: Record) -> None:
        """Write a record. The steps of successive records ascend."""

    def write_findings(self, step: int, findings: Sequence[FindingFields]) -> None:
        """Write all current findings, each a mapping of field names to plain values.

        Args:
            step: Step of the latest record.
            findings: All findings up to this step. They replace those of earlier calls.
        """
        return

    def flush(self) -> None:
        """Make everything written so far durable. Called after each epoch."""
        return

    def end(self) -> None:
        """Finish a training. Another may follow. Calls `flush` unless overridden."""
        self.flush()

    def close(self) -> None:
        """Close open files. The next record opens them again."""
        return


class FileWriter(Writer):
    """Base of writers that keep one file open, from the first record on.

    A monitor that records nothing thus leaves no file.

    Args:
        path: Path of a file or a directory. A relative path refers to the working directory
            at construction.

    Raises:
        TypeError: If `path` is not a path.
        FileNotFoundError: If `path` is relative and the working directory was deleted.
    """

    _file: Any = None

    def __init__(self, path: str | PathLike[str]) -> None:
        if not isinstance(path, str | PathLike):
            raise TypeError(f"`{type(self).__name__}` needs a path. Received: {path!r}.")
        self._given_path = str(path)
        # The program may change its working directory during training.
        try:
            self._path = Path(path).absolute()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"`{type(self).__name__}` needs an absolute path, because the working directory "
                f"was deleted. Received: {self._given_path!r}."
            ) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._given_path!r})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens a file of its own.
        return {**self.__dict__, "_file": None}

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def end(self) -> None:
        self.flush()
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
