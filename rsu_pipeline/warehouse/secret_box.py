"""Encryption of partners' keys and secrets, so that no table has them in clear text.

An encrypted value reads `sealed:<token>`, with a token of cryptography's Fernet. Keys come from RSU_SECRET_KEY, newest
first, or from a key file that only its owner can read, created at first use. Adding a key in front rotates: old values
are decrypted with the old key, new ones are encrypted with the new. A running process notices a changed file at the next value
that it encrypts or decrypts. A changed environment needs its restart.
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
    """The encryption key cannot be used. The text is one sentence: what is wrong, where, and the next step."""


class SecretBox:
    """Encrypts and decrypts single values."""

    def __init__(self, keys: Sequence[str], *, source: str) -> None:
        """Use these Fernet keys, newest first. `source` names where they come from, for error texts."""
        self._source = source
        self._set(keys)

    def _set(self, keys: Sequence[str]) -> None:
        # Checked here, because base64 decoding ignores unknown characters: of two keys separated by a semicolon it uses one.
        if not keys or not all(_KEY.fullmatch(key) for key in keys):
            raise SecretKeyError(
                f"{self._source} does not hold Fernet keys (44 characters of URL-safe base64 each, separated by commas or on"
                " lines of their own): make one with `rsu secrets new-key`."
            )
        self._newest = Fernet(keys[0])
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._fingerprint_keys = [_fingerprint_key(key) for key in keys]

    def _refresh(self) -> None:
        """Reload keys that have changed since. Those of the environment cannot change."""

    @property
    def key_count(self) -> int:
        """Number of keys, more than one during a rotation."""
        self._refresh()
        return len(self._fingerprint_keys)

    def encrypt(self, clear: str) -> str:
        self._refresh()
        return PREFIX + self._fernet.encrypt(clear.encode()).decode()

    def decrypt(self, sealed: str) -> str:
        """Return the clear value.

        Raises:
            SecretKeyError: none of the keys decrypts it.
        """
        self._refresh()
        try:
            return self._fernet.decrypt(_token(sealed)).decode()
        except InvalidToken:
            raise SecretKeyError(
                f"A stored secret opens with no key of {self._source}: put back the key it was encrypted with, or enter the"
                " partner's key and secret again."
            ) from None

    def fingerprints(self, clear: str) -> list[str]:
        """Return the keyed digests of a value under each key, newest first.

        Without one of the keys it is impossible to find out whether a value has a given digest.
        """
        self._refresh()
        return [hmac.digest(key, clear.encode(), "sha256").hex() for key in self._fingerprint_keys]

    def is_newest(self, sealed: str) -> bool:
        """Return whether a value was encrypted with the newest key."""
        self._refresh()
        try:
            self._newest.decrypt(_token(sealed))
        except InvalidToken:
            return False
        return True


class FileSecretBox(SecretBox):
    """The same with the keys of a file, which is read again whenever it was replaced."""

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._seen: tuple[int, ...] | None = None
        self._source = f"the key file {key_file}"
        self._refresh()

    def _refresh(self) -> None:
        with _readable(self._file):
            if self._seen is not None:
                # Never created again once it existed: a missing file is an accident, and the loaded keys still decrypt.
                with suppress(FileNotFoundError):
                    if _mark(self._file) != self._seen:
                        self._read()
                return
            _make(self._file)
            self._read()

    def _read(self) -> None:
        # The mark is taken before reading: if the file is replaced in between, it is read again.
        seen = _mark(self._file)
        self._set(read_secret_keys(self._file))
        self._seen = seen


def generate_secret_key() -> str:
    """Return a new key for RSU_SECRET_KEY."""
    return Fernet.generate_key().decode()


def load_secret_box(keys: Sequence[str], key_file: Path) -> SecretBox:
    """Return the secret box of this installation: from `keys` if given, else from `key_file`, which is created if absent.

    Raises:
        SecretKeyError: the file is readable by others or cannot be used.
    """
    return SecretBox(keys, source="RSU_SECRET_KEY") if keys else FileSecretBox(key_file)


def read_secret_keys(key_file: Path) -> list[str]:
    """Return the keys in a file, newest first.

    Raises:
        SecretKeyError: the file is readable by others or cannot be used.
    """
    with _readable(key_file):
        if key_file.stat().st_mode & 0o077:
            raise SecretKeyError(f"The secret key file {key_file} can be read by others: run chmod 600 on it.")
        return [line.strip() for line in key_file.read_text().splitlines() if line.strip()]


def write_secret_keys(key_file: Path, keys: Sequence[str]) -> None:
    """Replace the keys in the file, atomically.

    Raises:
        SecretKeyError: the file cannot be written.
    """
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
        raise SecretKeyError(f"The secret key file {key_file} is not a text file: restore the original file.") from None


def _make(key_file: Path) -> None:
    if not key_file.exists():
        private_files.make_folder(key_file.parent)
        # Written beside and linked into place, so that two first starts agree on one key and none reads half of it.
        with _draft(key_file, [generate_secret_key()]) as draft, suppress(FileExistsError):
            os.link(draft, key_file)


@contextmanager
def _draft(key_file: Path, keys: Sequence[str]) -> Iterator[Path]:
    """Yield a file of these keys beside the key file, safe on disk. It is deleted at the end unless it was moved."""
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
    """Return what distinguishes one state of the file from another."""
    stat = key_file.stat()
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode)


def _fingerprint_key(key: str) -> bytes:
    """Derive a key for digests that cannot be used for decrypting."""
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rsu-pipeline fingerprint")
    return derivation.derive(base64.urlsafe_b64decode(key))


def _token(sealed: str) -> bytes:
    return sealed.removeprefix(PREFIX).encode()
