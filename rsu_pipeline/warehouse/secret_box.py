"""Sealing of partners' keys and secrets, so that no table holds them in clear.

A sealed value reads `sealed:<token>`, the token being cryptography's Fernet. Keys come from RSU_SECRET_KEY, the newest
first, or from a key file that only its owner can read, made at first use. Adding a key in front rotates: old values
open with the old key, new ones are sealed with the new. A process that runs notices a changed file at the next value it
seals or opens; a changed environment needs its restart.
"""

import base64
import hmac
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rsu_pipeline import private_files
from rsu_pipeline.errors import RsuError

PREFIX = "sealed:"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


class SecretKeyError(RsuError):
    """The key that seals secrets cannot be used; one sentence: what is wrong, where, what to do."""


class Sealer:
    """Seals and opens single values."""

    def __init__(self, keys: Sequence[str], *, source: str) -> None:
        """`keys` are Fernet keys, the newest first; `source` says where they come from, for error texts."""
        self._source = source
        self._set(keys)

    def _set(self, keys: Sequence[str]) -> None:
        # Checked here, since base64 decoding skips what it does not know: of two keys parted by a semicolon it takes one.
        if not keys or not all(_KEY.fullmatch(key) for key in keys):
            raise SecretKeyError(
                f"{self._source} does not hold Fernet keys (44 characters of URL-safe base64 each, separated by commas or on"
                " lines of their own): make one with `rsu secrets new-key`."
            )
        self._newest = Fernet(keys[0])
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._fingerprint_keys = [_fingerprint_key(key) for key in keys]

    def _refresh(self) -> None:
        """Takes over keys that have changed since; those of the environment cannot."""

    @property
    def key_count(self) -> int:
        """How many keys there are; more than one while a rotation is under way."""
        self._refresh()
        return len(self._fingerprint_keys)

    def seal(self, clear: str) -> str:
        self._refresh()
        return PREFIX + self._fernet.encrypt(clear.encode()).decode()

    def open(self, sealed: str) -> str:
        """The clear value. Raises SecretKeyError when none of the keys opens it."""
        self._refresh()
        try:
            return self._fernet.decrypt(_token(sealed)).decode()
        except InvalidToken:
            raise SecretKeyError(
                f"A stored secret opens with no key of {self._source}: put the key it was sealed with back, or enter the"
                " partner's key and secret again."
            ) from None

    def fingerprints(self, clear: str) -> list[str]:
        """Return the keyed digests of a value under each key, the newest first.

        Without one of the keys nobody can tell whether a value has a given digest.
        """
        self._refresh()
        return [hmac.digest(key, clear.encode(), "sha256").hex() for key in self._fingerprint_keys]

    def is_newest(self, sealed: str) -> bool:
        """Whether a value was sealed with the newest key."""
        self._refresh()
        try:
            self._newest.decrypt(_token(sealed))
        except InvalidToken:
            return False
        return True


class FileSealer(Sealer):
    """The same with the keys of a file, read again whenever the file is another one."""

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._seen: tuple[int, ...] | None = None
        self._source = f"the key file {key_file}"
        self._refresh()

    def _refresh(self) -> None:
        with _readable(self._file):
            if self._seen is not None:
                # Never made anew once there was one: a file that went missing is a mishap, and the keys held still open.
                with suppress(FileNotFoundError):
                    if _mark(self._file) != self._seen:
                        self._read()
                return
            _make(self._file)
            self._read()

    def _read(self) -> None:
        # Marked before it is read: should it be replaced in between, it is read once more.
        seen = _mark(self._file)
        self._set(keys_of(self._file))
        self._seen = seen


def new_key() -> str:
    """A fresh key for RSU_SECRET_KEY."""
    return Fernet.generate_key().decode()


def load_sealer(keys: Sequence[str], key_file: Path) -> Sealer:
    """The sealer of this installation: from `keys` when given, else from `key_file`, which is made when absent.

    Raises SecretKeyError when the file is readable by others or cannot be used.
    """
    return Sealer(keys, source="RSU_SECRET_KEY") if keys else FileSealer(key_file)


def keys_of(key_file: Path) -> list[str]:
    """The keys in a file, the newest first. Raises SecretKeyError."""
    with _readable(key_file):
        if key_file.stat().st_mode & 0o077:
            raise SecretKeyError(f"The secret key file {key_file} can be read by others: run chmod 600 on it.")
        return [line.strip() for line in key_file.read_text().splitlines() if line.strip()]


def write_keys(key_file: Path, keys: Sequence[str]) -> None:
    """Puts these keys in the place of those in the file, all at once. Raises SecretKeyError."""
    with _readable(key_file), _draft(key_file, keys) as draft:
        draft.replace(key_file)
        folder = os.open(key_file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _readable(key_file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SecretKeyError(f"The secret key file {key_file} cannot be used: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SecretKeyError(
            f"The secret key file {key_file} does not hold text: put back the one made at first."
        ) from None


def _make(key_file: Path) -> None:
    if not key_file.exists():
        private_files.make_folder(key_file.parent)
        # Written beside and linked into place, so that two first starts agree on one key and none reads half of it.
        with _draft(key_file, [new_key()]) as draft, suppress(FileExistsError):
            os.link(draft, key_file)


@contextmanager
def _draft(key_file: Path, keys: Sequence[str]) -> Iterator[Path]:
    """A file of these keys beside the key file, safe on disk; gone at the end unless it was moved."""
    descriptor, name = tempfile.mkstemp(prefix=f".{key_file.name}.", dir=key_file.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write("".join(f"{key}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _mark(key_file: Path) -> tuple[int, ...]:
    """What tells one state of the file from another."""
    stat = key_file.stat()
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode)


def _fingerprint_key(key: str) -> bytes:
    """Derive a key for digests that is of no use for decrypting."""
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rsu-pipeline fingerprint")
    return derivation.derive(base64.urlsafe_b64decode(key))


def _token(sealed: str) -> bytes:
    return sealed.removeprefix(PREFIX).encode()
