"""Reduces a lock to what it adds to `requirements.txt`, for `make lock`.

`python -m tools.lock_delta requirements-dev.txt` leaves one line that includes `requirements.txt`, and the packages that are
not in it. pip follows the line and checks the hashes of both files, so that one `-r` installs the whole lock.
"""

import os
import sys
from pathlib import Path

BASE = Path(__file__).parent.parent / "requirements.txt"


def pins(text: str) -> list[str]:
    """Return the pins of a lock, each with the lines of its hashes. Lines that begin with another word are left out."""
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        if line[0].isalnum():
            found.append(line)
        elif line.startswith("    --hash="):
            found[-1] += line
    return found


def version_pinned(pin: str) -> str:
    """Return name and version of a pin, without its marker and its hashes."""
    return pin.split(maxsplit=1)[0]


def delta(text: str, base: str, include: str) -> str:
    """Return the lock that adds to `base` what `text` has more, and includes it.

    A pin that has another marker than in `base` is kept, since the wider one counts. Raises ValueError when `text` lacks a
    package of `base` or has another version of it: then the two cannot be installed together.
    """
    missing = {version_pinned(pin) for pin in pins(base)} - {version_pinned(pin) for pin in pins(text)}
    if missing:
        raise ValueError(f"It lacks {', '.join(sorted(missing))} of requirements.txt. Renew both with `make lock`.")
    return f"-r {include}\n" + "".join(pin for pin in pins(text) if pin not in set(pins(base)))


def main(path: Path) -> None:
    """Write the delta in place of the lock at `path`."""
    base = BASE.read_text()
    include = os.path.relpath(BASE, path.resolve().parent)
    path.write_text(delta(path.read_text(), base, include))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
