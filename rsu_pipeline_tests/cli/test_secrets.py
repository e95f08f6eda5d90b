"""`rsu secrets rotate`: a new key while everything runs."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key, load_secret_box, write_secret_keys
from rsu_pipeline_tests.cli.shell import environment, refusal, rows, rsu

Settings = dict[str, str]
SECRETS = {f"Timer {number}": (f"key-{number}", f"secret-{number}") for number in range(1, 8)}
OPENER = """
import sys, threading, time
from rsu_pipeline import installation
from rsu_pipeline.warehouse import credentials, database
here = installation.current()
opened, asked = 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), asked.set()), daemon=True).start()
with database.session(here.migrated_database_url, purpose="opener") as conn:
    print("ready", flush=True)
    while not asked.is_set():
        for number in range(1, 8):
            found = credentials.open_credential(conn, here.secret_box, number)
            assert (found.principal, found.secret) == (f"key-{number}", f"secret-{number}"), number
            opened += 1
        # As a partner entered by hand is, with whatever key the process holds.
        credentials.add(conn, here.secret_box, name="Newcomer", principal="key-8", secret="secret-8")
        conn.commit()
print(opened, flush=True)
"""


@pytest.fixture
def in_file(settings: Settings) -> Settings:
    """Provide an installation with seven partners and a key file."""
    del settings["RSU_SECRET_KEY"]
    fill(settings, load_secret_box((), key_file(settings)))
    return settings


def fill(settings: Settings, secret_box: SecretBox) -> None:
    with database.session(settings["RSU_DATABASE_URL"], purpose="tests") as conn:
        for name, (principal, secret) in SECRETS.items():
            credentials.add(conn, secret_box, name=name, principal=principal, secret=secret)
        conn.commit()


def key_file(settings: Settings) -> Path:
    return Path(settings["RSU_HOME"]) / "secret.key"


def keys(settings: Settings) -> list[str]:
    return key_file(settings).read_text().split()


def opens(settings: Settings, key: str) -> list[bool]:
    """Return for each credential whether a key alone decrypts it."""
    secret_box = SecretBox([key], source="tests")
    found = rows(settings, "SELECT principal, secret FROM partner_provider_credentials ORDER BY timing_partner_id")
    return [all(secret_box.is_newest(value) for value in pair) for pair in found]


def test_a_key_file_is_rotated_in_two_steps(in_file: Settings) -> None:
    (old,) = keys(in_file)
    known = "SELECT verified_at, rejected_at, entered_at, created_at FROM partner_provider_credentials ORDER BY 1, 2, 3"
    rows(in_file, "UPDATE partner_provider_credentials SET verified_at = now() WHERE timing_partner_id < 5")
    before = rows(in_file, known)
    first = rsu("secrets", "rotate", settings=in_file)
    assert first.returncode == 0, first.stderr
    assert "Re-encrypted 7 credentials" in first.stdout
    new, kept = keys(in_file)
    assert kept == old != new
    assert opens(in_file, new) == [True] * 7 and not any(opens(in_file, old))
    assert key_file(in_file).stat().st_mode & 0o777 == 0o600
    assert rows(in_file, known) == before, "what is known of the credentials stays"
    assert [path.name for path in key_file(in_file).parent.iterdir() if "secret" in path.name] == ["secret.key"]

    last = rsu("secrets", "rotate", "--finish", settings=in_file)
    assert last.returncode == 0, last.stderr
    assert "Dropped 1 old keys" in last.stdout
    assert keys(in_file) == [new]
    assert opens(in_file, new) == [True] * 7
    for done in (first, last):
        assert old not in done.stdout + done.stderr and new not in done.stdout + done.stderr


def test_a_rotation_that_was_cut_short_goes_on_with_the_same_key(in_file: Settings) -> None:
    (old,) = keys(in_file)
    new = generate_secret_key()
    write_secret_keys(key_file(in_file), [new, old])  # and then it was killed
    assert "Re-encrypted 7 credentials" in rsu("secrets", "rotate", settings=in_file).stdout
    assert keys(in_file) == [new, old]
    again = rsu("secrets", "rotate", settings=in_file)
    assert "Re-encrypted 0 credentials, 7 unchanged" in again.stdout


def test_what_an_old_key_still_sealed_is_sealed_anew_before_that_key_goes(in_file: Settings) -> None:
    (old,) = keys(in_file)
    rsu("secrets", "rotate", settings=in_file)
    with database.session(in_file["RSU_DATABASE_URL"], purpose="tests") as conn:
        secret_box = SecretBox([old], source="tests")
        credentials.add(conn, secret_box, name="Late", principal="key-8", secret="secret-8")
        conn.commit()
    done = rsu("secrets", "rotate", "--finish", settings=in_file)
    assert "Re-encrypted 1 credentials, 7 unchanged" in done.stdout
    (new,) = keys(in_file)
    assert opens(in_file, new) == [True] * 8


def test_an_old_key_is_kept_while_the_calls_of_an_api_key_without_a_partner_count(in_file: Settings) -> None:
    rows(
        in_file,
        "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint)"
        " SELECT 1, api_key_id, 'routine', 'races' FROM partner_provider_credentials WHERE timing_partner_id = 1",
    )
    rsu("secrets", "rotate", settings=in_file)
    with database.session(in_file["RSU_DATABASE_URL"], purpose="tests") as conn:
        secret_box = load_secret_box((), key_file(in_file))
        credentials.add(conn, secret_box, name="Timer 1", principal="key-8", secret="secret-8")
        conn.commit()
    text = refusal(rsu("secrets", "rotate", "--finish", settings=in_file))
    assert "Run `rsu secrets rotate --finish` again in 60 minutes" in text
    assert len(keys(in_file)) == 2
    rows(in_file, "UPDATE api_calls SET granted_at = granted_at - interval '1 hour'")
    assert "Dropped 1 old keys" in rsu("secrets", "rotate", "--finish", settings=in_file).stdout
    assert rows(in_file, "SELECT count(*) FROM runsignup_api_keys") == [(7,)]


def test_a_process_at_work_never_fails_over_rotations_and_takes_each_key_over(in_file: Settings) -> None:
    opener = subprocess.Popen(
        [sys.executable, "-c", OPENER],
        env=environment(**in_file),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert opener.stdout is not None and opener.stdout.readline() == "ready\n"
    began = keys(in_file)
    for _ in range(2):
        for step in ((), ("--finish",)):
            done = rsu("secrets", "rotate", *step, settings=in_file)
            assert done.returncode == 0, done.stderr
            assert opener.poll() is None
    time.sleep(0.3)
    output, errors = opener.communicate("stop\n", timeout=60)
    assert (opener.returncode, errors) == (0, ""), errors
    assert int(output) > 50
    (new,) = keys(in_file)
    assert [new] != began
    assert opens(in_file, new) == [True] * 8, "the newcomer's too, which the process went on sealing"


def test_keys_of_the_environment_are_rotated_by_hand(settings: Settings) -> None:
    old = settings["RSU_SECRET_KEY"]
    fill(settings, SecretBox([old], source="tests"))
    first = rsu("secrets", "rotate", settings=settings)
    assert first.returncode == 0, first.stderr
    new = first.stdout.split()[-1]
    assert "Put this key and a comma in front of RSU_SECRET_KEY" in first.stdout
    assert opens(settings, old) == [True] * 7, "nothing changes before every process knows the new key"
    both = settings | {"RSU_SECRET_KEY": f"{new},{old}"}
    assert "Re-encrypted 7 credentials" in rsu("secrets", "rotate", settings=both).stdout
    last = rsu("secrets", "rotate", "--finish", settings=both)
    assert "The old keys are no longer needed" in last.stdout
    assert opens(settings, new) == [True] * 7
    assert not key_file(settings).exists()
    alone = rsu("secrets", "rotate", "--finish", settings=settings | {"RSU_SECRET_KEY": new})
    assert "There is only one key" in alone.stdout


def test_a_secret_that_opens_with_no_key_is_named_and_left_as_it_is(in_file: Settings) -> None:
    foreign = SecretBox([generate_secret_key()], source="tests").encrypt("lost")
    rows(in_file, f"UPDATE partner_provider_credentials SET secret = '{foreign}' WHERE timing_partner_id = 3")
    done = rsu("secrets", "rotate", settings=in_file)
    assert done.returncode == 1
    assert "Re-encrypted 6 credentials" in done.stdout
    assert "No key decrypts the secrets of partner 3" in done.stderr
    assert rows(in_file, "SELECT secret FROM partner_provider_credentials WHERE timing_partner_id = 3") == [(foreign,)]


def test_other_providers_credentials_are_left_alone(in_file: Settings) -> None:
    rows(
        in_file,
        "INSERT INTO providers (name) VALUES ('Another'); INSERT INTO partner_provider_credentials (provider_id,"
        " timing_partner_id, principal, secret) SELECT provider_id, 1, 'clear', 'text' FROM providers WHERE name = 'Another'",
    )
    rsu("secrets", "rotate", settings=in_file)
    assert rows(in_file, "SELECT count(*) FROM partner_provider_credentials WHERE secret = 'text'") == [(1,)]


def test_a_key_file_that_others_can_read_is_refused(in_file: Settings) -> None:
    key_file(in_file).chmod(0o640)
    before = keys(in_file)
    assert "can be read by others" in refusal(rsu("secrets", "rotate", settings=in_file))
    assert keys(in_file) == before


def test_in_clear_entered_credentials_are_sealed_with_the_new_key(in_file: Settings) -> None:
    rows(
        in_file,
        "UPDATE partner_provider_credentials SET principal = 'key-2', secret = 'secret-2' WHERE timing_partner_id = 2",
    )
    assert rsu("secrets", "rotate", settings=in_file).returncode == 0
    assert opens(in_file, keys(in_file)[0]) == [True] * 7
