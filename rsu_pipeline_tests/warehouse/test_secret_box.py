"""Sealing of secrets, and the key file."""

import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from rsu_pipeline.installation import Installation
from rsu_pipeline.settings import load_settings
from rsu_pipeline.warehouse.secret_box import (
    PREFIX,
    SecretBox,
    SecretKeyError,
    generate_secret_key,
    load_secret_box,
    read_secret_keys,
    write_secret_keys,
)

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
STARTER = """
import sys
from pathlib import Path
from rsu_pipeline.warehouse.secret_box import load_secret_box
print("ready", flush=True)
sys.stdin.readline()
print(load_secret_box((), Path(sys.argv[1])).encrypt("a secret"))
"""


@settings(max_examples=60)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_what_was_sealed_opens_to_the_same(clear: str) -> None:
    secret_box = SecretBox([NEW], source="RSU_SECRET_KEY")
    sealed = secret_box.encrypt(clear)
    assert sealed.startswith(PREFIX)
    assert secret_box.decrypt(sealed) == clear
    assert len(clear) < 8 or clear not in sealed.removeprefix(PREFIX)


def test_a_key_put_in_front_seals_what_is_new_and_the_old_ones_open_what_is_there() -> None:
    sealed = SecretBox([OLD], source="RSU_SECRET_KEY").encrypt("a secret")
    rotated = SecretBox([NEW, OLD], source="RSU_SECRET_KEY")
    assert rotated.decrypt(sealed) == "a secret"
    assert SecretBox([NEW], source="RSU_SECRET_KEY").decrypt(rotated.encrypt("another")) == "another"


@pytest.mark.parametrize("change", ["key", "cut", "flipped", "empty", "clear"])
def test_what_cannot_be_opened_is_one_sentence_that_repeats_nothing(change: str) -> None:
    secret_box = SecretBox([NEW], source="the key file /some/where")
    sealed = (SecretBox([OLD], source="x") if change == "key" else secret_box).encrypt("a secret")
    sealed = {
        "cut": sealed[:-9],
        "flipped": sealed[:-9] + ("B" if sealed[-9] == "A" else "A") + sealed[-8:],
        "empty": PREFIX,
        "clear": "pläin",
    }.get(change, sealed)
    with pytest.raises(
        SecretKeyError, match=r"^A stored secret opens with no key of the key file /some/where: "
    ) as caught:
        secret_box.decrypt(sealed)
    text = "".join(traceback.format_exception(caught.value))
    assert NEW not in text
    assert "a secret" not in text
    assert sealed.removeprefix(PREFIX) == "" or sealed not in text


NO_KEYS = {"short": "short-s3cret", "empty": "", "cut": NEW[:-1], "longer": NEW + "=", "foreign": "ключ"}
NO_KEYS |= {"semicolon": NEW + ";" + OLD, "blank": " ", "inner blank": NEW[:20] + " " + NEW[20:]}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_a_key_that_is_none_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(
        SecretKeyError, match=r"^RSU_SECRET_KEY does not hold Fernet keys .*`rsu secrets new-key`"
    ) as caught:
        SecretBox([OLD, key], source="RSU_SECRET_KEY")
    text = "".join(traceback.format_exception(caught.value))
    assert OLD not in text
    assert len(key) < 4 or key not in text


def test_nothing_shows_a_key(tmp_path: Path) -> None:
    settings = load_settings(
        {"RSU_HOME": str(tmp_path), "RSU_SECRET_KEY": f"{NEW},{OLD}", "RSU_DATABASE_URL": "postgresql://u:s3cret@h/d"}
    )
    here = Installation(settings)
    assert here.secret_box.decrypt(here.secret_box.encrypt("a secret")) == "a secret"
    for thing in (here, settings, here.secret_box):
        shown = f"{thing!r} {thing}"
        assert all(part not in shown for part in (NEW, OLD, "s3cret"))


def test_a_new_key_is_fresh_and_fits() -> None:
    keys = {generate_secret_key() for _ in range(3)}
    assert len(keys) == 3
    assert SecretBox(sorted(keys), source="x").decrypt(SecretBox([min(keys)], source="x").encrypt("y")) == "y"


# The key file


def test_keys_that_are_given_make_no_file(tmp_path: Path) -> None:
    load_secret_box((NEW,), tmp_path / "secret.key")
    assert list(tmp_path.iterdir()) == []


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "secret.key"
    sealed = load_secret_box((), path).encrypt("a secret")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_secret_box((), path).decrypt(sealed) == "a secret"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]


def test_processes_that_start_first_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdout is not None and starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    sealed = [starter.communicate(timeout=60)[0].strip() for starter in starters]
    secret_box = load_secret_box((), path)
    assert [secret_box.decrypt(text) for text in sealed] == ["a secret"] * 4


def test_threads_that_start_first_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda _: load_secret_box((), path).encrypt("a secret"), range(8)))
    secret_box = load_secret_box((), path)
    assert [secret_box.decrypt(text) for text in sealed] == ["a secret"] * 8


def test_several_lines_of_the_key_file_are_several_keys(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = load_secret_box((), path).encrypt("a secret")
    path.write_text(f"{NEW}\n\n{path.read_text()}")
    rotated = load_secret_box((), path)
    assert rotated.decrypt(sealed) == "a secret"
    assert SecretBox([NEW], source="x").decrypt(rotated.encrypt("another")) == "another"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    path.write_text(NEW)
    path.chmod(mode)
    with pytest.raises(
        SecretKeyError, match=rf"^The secret key file {path} can be read by others: run chmod 600 on it\.$"
    ):
        load_secret_box((), path)


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff\xfe\x00", (NEW + "x").encode()], ids=range(4))
def test_a_spoilt_key_file_is_named_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretKeyError, match=f"key file {path} (does not hold|is not a text file)") as caught:
        load_secret_box((), path)
    assert NEW not in "".join(traceback.format_exception(caught.value))


def test_a_home_that_cannot_hold_a_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(SecretKeyError, match=r"^The secret key file .*home/secret.key cannot be used: "):
        load_secret_box((), tmp_path / "home" / "secret.key")


# A file that changes while a process runs


def test_a_changed_key_file_is_taken_over_at_the_next_value(tmp_path: Path) -> None:
    key_file = tmp_path / "secret.key"
    secret_box = load_secret_box((), key_file)
    sealed, (old,) = secret_box.encrypt("a secret"), read_secret_keys(key_file)
    write_secret_keys(key_file, [NEW, old])
    assert (secret_box.decrypt(sealed), secret_box.key_count, secret_box.is_newest(sealed)) == ("a secret", 2, False)
    anew = secret_box.encrypt("a secret")
    assert SecretBox([NEW], source="x").decrypt(anew) == "a secret"
    write_secret_keys(key_file, [NEW])
    assert (secret_box.decrypt(anew), secret_box.is_newest(anew)) == ("a secret", True)
    with pytest.raises(SecretKeyError, match="opens with no key"):
        secret_box.decrypt(sealed)


def test_a_key_file_that_went_missing_is_not_made_anew_under_a_process_at_work(tmp_path: Path) -> None:
    key_file = tmp_path / "secret.key"
    secret_box = load_secret_box((), key_file)
    sealed = secret_box.encrypt("a secret")
    key_file.unlink()
    assert secret_box.decrypt(sealed) == "a secret"
    assert not key_file.exists()


@pytest.mark.parametrize("spoil", ["chmod", "text"])
def test_a_key_file_that_was_spoilt_is_refused_until_it_is_right_again(tmp_path: Path, spoil: str) -> None:
    key_file = tmp_path / "secret.key"
    secret_box = load_secret_box((), key_file)
    sealed, keys = secret_box.encrypt("a secret"), read_secret_keys(key_file)
    if spoil == "chmod":
        key_file.chmod(0o644)
    else:
        key_file.write_text("no key\n")
    for _ in range(2):
        with pytest.raises(SecretKeyError, match="chmod 600" if spoil == "chmod" else "does not hold Fernet keys"):
            secret_box.decrypt(sealed)
    write_secret_keys(key_file, keys)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert secret_box.decrypt(sealed) == "a secret"
