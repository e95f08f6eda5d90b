"""Where a command writes: a file that it may replace, or standard output, either of which may be full, closed or a device."""

import errno
import os
import sys
from pathlib import Path

import click

MAX_PATH_CHARS = 200
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE)


def find_replaceable_file(path: Path, otherwise: str = "Name a file.") -> Path:
    """Return the file that is written beside its place and renamed, which a link may lead to.

    Args:
        path: as the user named it.
        otherwise: the next step if it cannot be replaced.

    Raises:
        UsageError: something else is there. A device or a pipe such as /dev/stdout would be replaced for every program. A folder
            cannot be replaced, which its own error states.
    """
    target = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        raise click.UsageError(f"{str(path)[:MAX_PATH_CHARS]} is no regular file, and would be replaced. {otherwise}")
    return target


def open_closed_outputs() -> None:
    """Give a process that was started without standard output or standard error (`>&-`) one that discards."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends


def is_of_output(error: OSError) -> bool:
    """Return whether a stream that was open, such as standard output, could not be written."""
    return error.filename is None and error.errno in UNWRITABLE


def discard_output() -> None:
    """Discard what is still to be written to standard output, which the interpreter would try once more at its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)
