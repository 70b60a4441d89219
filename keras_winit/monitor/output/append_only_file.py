"""Append-only files, which stay readable after a crash, a full disk or a lost directory."""

import errno
import os
import weakref
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

# Number of bytes that are read at once.
BLOCK_SIZE = 1 << 16


class AppendOnlyFile:
    """A file that grows by whole chunks of bytes and is readable at any moment.

    When `write` returns, the operating system has the chunk: a killed process loses none.
    If only a part of a chunk can be written, that part is removed again, unless another writer
    has appended to it. Bytes of others are never removed.

    Args:
        path: Path of the file. Missing directories are created.
        new: Whether the file must not exist yet. Defaults to False.

    Raises:
        OSError: If the file cannot be opened, or is a device or a pipe.
    """

    def __init__(self, path: Path, new: bool = False) -> None:
        _require_regular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("xb" if new else "ab", buffering=0)
        _lock(self._file)
        # Closes the file of a monitor that an interrupt has left open and nobody refers to.
        weakref.finalize(self, self._file.close)

    def write(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            OSError: If the disk is full, the file or its directory was deleted, or the
                connection to a network file system is lost.
        """
        # Writing to a deleted file raises no error, but the data is lost.
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise self._deleted_error()
        unwritten = memoryview(chunk)
        try:
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]
        except BaseException:
            with suppress(OSError):
                self._remove_unfinished(len(chunk) - len(unwritten))
            raise

    def flush(self) -> None:
        """Wait until all chunks are on the disk.

        Raises:
            OSError: As `write`. A network file system may report only here that it is full.
        """
        os.fsync(self._file.fileno())
        if not self._path.exists():
            raise self._deleted_error()

    def close(self) -> None:
        self._file.close()

    def _remove_unfinished(self, length: int) -> None:
        """Remove the bytes just written, if they still are the end of the file.

        The file may be shorter or longer than this writer made it: others truncate it, as log
        rotation does, or append to it. Appending leaves the position after our own bytes.
        """
        end = self._file.tell()
        if length and os.fstat(self._file.fileno()).st_size == end:
            self._file.truncate(end - length)

    def _deleted_error(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "deleted while in use", str(self._path))


def is_open_for_writing(path: Path) -> bool:
    """Return whether an `AppendOnlyFile`, maybe of another process, has a file open.

    It is not known on systems without `fcntl`, nor on file systems without locks.
    """
    with suppress(OSError), path.open("rb") as file:
        return not _lock(file)
    return False


def _lock(file: Any) -> bool:
    """Lock a file until it is closed, also by the end of the process; False if another has it."""
    if find_spec("fcntl") is None:
        return True
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def cut_unfinished_line(path: Path, start: bytes) -> bool:
    """Remove the last line of a text file if it has no end, as after a killed process.

    Args:
        path: Path of the file, which need not exist.
        start: Bytes with which every file of this kind starts.

    Returns:
        Whether the file holds complete lines.

    Raises:
        FileExistsError: If the file starts otherwise. It is left unchanged.
        OSError: If it is a device or a pipe.
    """
    _require_regular(path)
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return False
    with file:
        head = file.read(len(start))
        end = _end_of_complete_lines(file)
        if not (head == start if end else start.startswith(head)):
            message = "is not a file of this writer and was left unchanged"
            raise FileExistsError(errno.EEXIST, message, str(path))
        # A line without an end may be one that another process is about to finish.
        if end < file.seek(0, os.SEEK_END) and _lock(file):
            file.truncate(end)
    return end > 0


def _require_regular(path: Path) -> None:
    """Raise an error for a device or a pipe, which keeps nothing that could be read again."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "is a device or a pipe, a file is needed", str(path))


def _end_of_complete_lines(file: BinaryIO) -> int:
    """Return the position after the last line break, searched block by block from the end."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - BLOCK_SIZE)
        file.seek(begin)
        line_break = file.read(end - begin).rfind(b"\n")
        if line_break >= 0:
            return begin + line_break + 1
        end = begin
    return 0
