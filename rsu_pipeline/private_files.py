"""Files that only their owner can read, regardless of the umask of the process that started the program.

The folder of an installation has the secret key, logs, and the output of runs. Dagster and PostgreSQL write there too, with
the umask they inherit.
"""

import os
from contextlib import suppress
from pathlib import Path

from rsu_pipeline.errors import RsuError

UMASK = 0o077
_POSTGRES = "postgres"
"""The embedded PostgreSQL's folder, which has its own accounts and modes."""


def set_umask() -> int:
    """Make this process and those it starts create private files only. Return the previous umask."""
    return os.umask(UMASK)


def make_folder(home: Path) -> None:
    """Create the folder of an installation if it is missing.

    Root's embedded PostgreSQL runs as another account, which must be able to pass through the folder, but cannot list it.
    """
    if not home.exists():
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(_allowed())


def close_folder(home: Path) -> None:
    """Create the folder of an installation, and remove the rights of others from what is already there."""
    make_folder(home)
    _restrict(home, _allowed())
    for folder, folders, files in os.walk(home):
        if Path(folder) == home and _POSTGRES in folders:
            folders.remove(_POSTGRES)
        for name in folders + files:
            _restrict(Path(folder, name), 0o700)


def write_new_private_file(path: Path, text: str) -> None:
    """Write a file that is not there yet, and that only its owner can read.

    Raises:
        RsuError: it is there, or cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise RsuError(f"{path} cannot be written ({error.strerror}): name another new file.") from None


def _allowed() -> int:
    return 0o711 if os.geteuid() == 0 else 0o700


def _restrict(path: Path, allowed: int) -> None:
    # A file that belongs to another user, or no longer exists, is left alone.
    with suppress(OSError):
        mode = path.lstat().st_mode & 0o7777
        if not path.is_symlink() and mode & ~allowed & 0o077:
            path.chmod(mode & ~0o077 | mode & allowed)
