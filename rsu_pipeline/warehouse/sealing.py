"""Sealing of partners' keys and secrets, so that no table holds them in clear.

A sealed value reads `sealed:<token>`, the token being cryptography's Fernet. Keys come from RSU_SECRET_KEY, the newest
first, or from a key file that only its owner can read, made at first use. Adding a key in front rotates: old values
open with the old key, new ones are sealed with the new.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

PREFIX = "sealed:"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


class SecretKeyError(RuntimeError):
    """The key that seals secrets cannot be used; one sentence: what is wrong, where, what to do."""


class Sealer:
    """Seals and opens single values."""

    def __init__(self, keys: Sequence[str], *, source: str) -> None:
        """`keys` are Fernet keys, the newest first; `source` says where they come from, for error texts."""
        self._source = source
        # Checked here, since base64 decoding skips what it does not know: of two keys parted by a semicolon it takes one.
        if not keys or not all(_KEY.fullmatch(key) for key in keys):
            raise SecretKeyError(
                f"{source} does not hold Fernet keys (44 characters of URL-safe base64 each, separated by commas or on lines"
                " of their own): make one with `rsu secrets new-key`."
            )
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, clear: str) -> str:
        return PREFIX + self._fernet.encrypt(clear.encode()).decode()

    def open(self, sealed: str) -> str:
        """The clear value. Raises SecretKeyError when none of the keys opens it."""
        try:
            return self._fernet.decrypt(sealed.removeprefix(PREFIX).encode()).decode()
        except InvalidToken:
            raise SecretKeyError(
                f"A stored secret opens with no key of {self._source}: put the key it was sealed with back, or enter the"
                " partner's key and secret again."
            ) from None


def new_key() -> str:
    """A fresh key for RSU_SECRET_KEY."""
    return Fernet.generate_key().decode()


def load_sealer(keys: Sequence[str], key_file: Path) -> Sealer:
    """The sealer of this installation: from `keys` when given, else from `key_file`, which is made when absent.

    Raises SecretKeyError when the file is readable by others or cannot be used.
    """
    if keys:
        return Sealer(keys, source="RSU_SECRET_KEY")
    try:
        text = _read_or_make(key_file)
    except OSError as error:
        raise SecretKeyError(f"The secret key file {key_file} cannot be used: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SecretKeyError(
            f"The secret key file {key_file} does not hold text: put back the one made at first."
        ) from None
    return Sealer([line.strip() for line in text.splitlines() if line.strip()], source=f"the key file {key_file}")


def _read_or_make(key_file: Path) -> str:
    if not key_file.exists():
        key_file.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and linked into place, so that two first starts agree on one key and none reads half of it.
        descriptor, draft = tempfile.mkstemp(prefix=f".{key_file.name}.", dir=key_file.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(new_key() + "\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, key_file)
        finally:
            Path(draft).unlink()
    if key_file.stat().st_mode & 0o077:
        raise SecretKeyError(f"The secret key file {key_file} can be read by others: run chmod 600 on it.")
    return key_file.read_text()
