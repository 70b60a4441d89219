"""Files that grow by whole records and notice when they cannot."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 16


class LogFile:
    """A file that grows by whole records, readable at any moment.

    A record is with the operating system when `write` returns: a killed process loses none.
    What of a record could not be written is taken back.

    Args:
        path: Directories that are missing are made.
        new: Whether the file must not exist yet.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path, new: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("xb" if new else "ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def write(self, record: bytes) -> None:
        """Append a record.

        Raises:
            OSError: On a full disk, a deleted file or directory, a lost connection.
        """
        # An unlinked file takes everything that is written to it, into nowhere.
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise self._deleted()
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(record)

    def flush(self) -> None:
        """Wait until all records are on the disk.

        Raises:
            OSError: As `write`; network file systems tell here that they are full.
        """
        os.fsync(self._file.fileno())
        if not self._path.exists():
            raise self._deleted()

    def close(self) -> None:
        self._file.close()

    def _deleted(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "deleted while in use", str(self._path))


def mend(path: Path, start: bytes) -> bool:
    """Cut the last line of a text file back if a killed process left it unfinished.

    Args:
        path: Of the file, which need not exist.
        start: What a file of this kind starts with; anything else is left alone.

    Returns:
        Whether the file holds complete lines.

    Raises:
        FileExistsError: If the file starts with something else.
    """
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return False
    with file:
        head = file.read(len(start))
        end = _end_of_lines(file.seek(0, os.SEEK_END), file)
        if not (head == start if end else start.startswith(head)):
            raise FileExistsError(errno.EEXIST, "holds something else, left alone", str(path))
        file.truncate(end)
    return end > 0


def _end_of_lines(end: int, file: BinaryIO) -> int:
    """Where the last complete line before `end` ends."""
    while end > 0:
        begin = max(0, end - BLOCK)
        file.seek(begin)
        last = file.read(end - begin).rfind(b"\n")
        if last >= 0:
            return begin + last + 1
        end = begin
    return 0
