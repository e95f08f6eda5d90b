"""`rsu partners`: who is synced, and how secrets come in."""

import json
import os
import pty
import select
import subprocess
import time

import click
import pytest

from rsu_pipeline.cli.partners_command import partners
from rsu_pipeline_tests.cli.shell import SCRIPT, Done, arguments_of_all, environment, refusal, rows, rsu
from runsignup_sandbox.process import SandboxProcess

Settings = dict[str, str]
WORKS = "The credential works: one of its races was read."
REFUSED = "RunSignup rejects the credential"
CREDENTIALS = "SELECT principal, secret FROM partner_provider_credentials"


def access(sandbox: SandboxProcess, partner: int = 3) -> tuple[str, str]:
    entry = sandbox.admin.partners()[partner - 1]
    return entry["key"], entry["secret"]


def add(settings: Settings, key: str, secret: str, *more: str, name: str = "Juniper Timing") -> Done:
    return rsu("partners", "add", name, "--key", key, *more, settings=settings, stdin=secret + "\n")


def listed(settings: Settings) -> list[dict[str, object]]:
    done = rsu("partners", "list", "--json", settings=settings)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_a_partner_is_added_with_its_secret_from_standard_input_and_checked(
    settings: Settings, sandbox: SandboxProcess
) -> None:
    key, secret = access(sandbox)
    done = add(settings, key, secret)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("Added partner 1-juniper-timing.")
    assert done.stdout.splitlines()[-1] == WORKS
    assert secret not in done.stdout + done.stderr
    ((principal, sealed),) = rows(settings, CREDENTIALS)
    assert principal.startswith("sealed:") and sealed.startswith("sealed:")
    (partner,) = listed(settings)
    assert (partner["key"], partner["name"], partner["state"]) == ("1-juniper-timing", "Juniper Timing", "works")
    text = json.dumps(partner)
    assert key not in text and secret not in text and "sealed:" not in text
    table = rsu("partners", "list", settings=settings).stdout
    assert "1-juniper-timing" in table and "works" in table


def test_key_and_secret_may_come_from_the_environment(settings: Settings, sandbox: SandboxProcess) -> None:
    key, secret = access(sandbox)
    done = rsu(
        "partners", "add", "Juniper Timing", settings=settings | {"RSU_PARTNER_KEY": key, "RSU_PARTNER_SECRET": secret}
    )
    assert done.returncode == 0, done.stderr
    assert WORKS in done.stdout


def test_a_secret_is_asked_for_at_a_terminal_and_not_shown(settings: Settings, sandbox: SandboxProcess) -> None:
    key, secret = access(sandbox)
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, "partners", "add", "Juniper Timing"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(**settings),
        start_new_session=True,
    )
    os.close(terminal)
    shown = wait_for(main, "RunSignup API key:")
    os.write(main, f"{key}\n".encode())
    shown += wait_for(main, "RunSignup API secret:")
    os.write(main, f"{secret}\n".encode())
    shown += wait_for(main, WORKS)
    assert process.wait(60) == 0
    os.close(main)
    assert secret not in shown


def wait_for(terminal: int, text: str) -> str:
    shown, deadline = "", time.monotonic() + 60
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode()
    return shown


def test_no_option_or_argument_takes_a_secret(settings: Settings) -> None:
    command = partners.commands["add"]
    options = {name for parameter in command.params for name in parameter.opts}
    assert options == {"name", "--key", "--scheme", "--no-check", "--shared-key", "--keep"}
    assert [parameter.name for parameter in command.params if isinstance(parameter, click.Argument)] == ["name"]
    assert "No such option" in refusal(rsu("partners", "add", "X", "--secret", "s", settings=settings))
    assert "unexpected extra argument" in refusal(rsu("partners", "add", "X", "s", "--key", "k", settings=settings))
    assert listed(settings) == []


def test_the_list_of_processes_does_not_show_the_secret(settings: Settings) -> None:
    process = subprocess.Popen(
        [SCRIPT, "partners", "add", "Juniper Timing", "--key", "k", "--no-check"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(**settings),
    )
    assert process.stdin is not None
    process.stdin.write("pr0cess-s3cret\n")
    process.stdin.flush()
    seen = []
    deadline = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline
        seen.append(arguments_of_all())
        time.sleep(0.02)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert any("Juniper Timing" in text for text in seen)
    assert all("pr0cess-s3cret" not in text for text in seen)


def test_a_wrong_secret_leaves_nothing_half_entered_unless_asked(settings: Settings, sandbox: SandboxProcess) -> None:
    key, _ = access(sandbox)
    done = add(settings, key, "not-the-secret")
    assert done.returncode == 1 and done.stdout == ""
    assert "RunSignup rejects the credential. The secret has 14 characters and the other 32" in done.stderr
    assert "Nothing was stored." in done.stderr and "not-the-secret" not in done.stderr
    assert listed(settings) == []
    kept = add(settings, key, "not-the-secret", "--keep")
    assert kept.returncode == 1 and REFUSED in kept.stderr
    assert listed(settings)[0]["state"] == "rejected: RunSignup rejects key or secret"
    again = rsu("partners", "check", str(listed(settings)[0]["key"]), settings=settings)
    assert (again.returncode, REFUSED in again.stderr) == (1, True), again
    mended = add(settings, *access(sandbox))
    assert (mended.returncode, WORKS in mended.stdout) == (0, True)
    assert [partner["state"] for partner in listed(settings)] == ["works"]


def test_a_rejected_pair_leaves_the_one_that_works(settings: Settings, sandbox: SandboxProcess) -> None:
    assert add(settings, *access(sandbox)).returncode == 0
    before = rows(
        settings, "SELECT principal, secret, verified_at, entered_at, api_key_id FROM partner_provider_credentials"
    )
    assert add(settings, access(sandbox)[0], "not-the-secret").returncode == 1
    after = rows(
        settings, "SELECT principal, secret, verified_at, entered_at, api_key_id FROM partner_provider_credentials"
    )
    assert after == before and listed(settings)[0]["state"] == "works"


def test_a_swapped_pair_is_recognized(settings: Settings, sandbox: SandboxProcess) -> None:
    key, secret = access(sandbox)
    done = add(settings, secret, key)
    assert done.returncode == 1 and "Key and secret are swapped. Enter them the other way round." in done.stderr
    assert key not in done.stderr and secret not in done.stderr and listed(settings) == []


@pytest.mark.parametrize(
    ("key", "secret", "sentence"),
    [
        ("api_key=abc", "def", "The key begins with the name 'api_key'"),
        ("abc", "Bearer def", "The secret is an OAuth token"),
        ("ab cd", "def", "The key has a blank in it"),
        ("same", "same", "Key and secret are the same"),
        ("17.abc-def", "ghi", "The key is a caller registration"),
    ],
)
def test_a_pair_of_a_wrong_form_is_refused_before_a_call(
    settings: Settings, sandbox: SandboxProcess, key: str, secret: str, sentence: str
) -> None:
    assert sentence in refusal(add(settings, key, secret))
    assert listed(settings) == []


@pytest.mark.parametrize(
    ("option", "instead"), [("--force-full-sync", "`rsu sync --full`"), ("--timing-partner", "`rsu sync --partner ID`")]
)
def test_an_option_of_the_older_program_is_hinted_at(settings: Settings, option: str, instead: str) -> None:
    assert f"The older program's {option} is {instead} here." in refusal(rsu("sync", option, settings=settings))


def test_a_revoked_credential_is_noticed_and_works_again_when_granted(
    settings: Settings, sandbox: SandboxProcess
) -> None:
    assert add(settings, *access(sandbox), "--no-check").stdout.count("\n") == 1
    assert listed(settings)[0]["state"] == "not tried yet"
    assert rsu("partners", "check", "1-juniper-timing", settings=settings).returncode == 0
    sandbox.admin.revoke(3)
    try:
        revoked = rsu("partners", "check", "1-juniper-timing", settings=settings)
    finally:
        sandbox.admin.grant(3)
    assert revoked.returncode == 1
    assert REFUSED in revoked.stderr
    assert rsu("partners", "check", "1", settings=settings).stdout.strip() == WORKS
    assert listed(settings)[0]["state"] == "works"


def test_a_partner_is_switched_off_and_on(settings: Settings, sandbox: SandboxProcess) -> None:
    add(settings, *access(sandbox), "--no-check")
    assert rsu("partners", "disable", "1", settings=settings).stdout == "Partner 1-juniper-timing is disabled.\n"
    assert listed(settings)[0]["state"] == "switched off"
    assert "is disabled. Enable it with `rsu partners enable`" in refusal(
        rsu("partners", "check", "1", settings=settings)
    )
    assert "There is no partner to sync" in refusal(rsu("sync", settings=settings))
    assert rsu("partners", "enable", "1-juniper-timing", settings=settings).returncode == 0
    assert listed(settings)[0]["state"] == "not tried yet"


def test_names_are_shown_as_they_are(settings: Settings) -> None:
    name = "Été [/bold] :smile: & Söhne"
    assert add(settings, "k", "s", "--no-check", name=f" {name} ").returncode == 0
    assert listed(settings)[0]["name"] == name
    table = rsu("partners", "list", settings=settings)
    assert table.returncode == 0, table.stderr
    assert name in table.stdout
    assert "1-ete-bold-smile-sohne" in rsu("status", settings=settings).stdout


def test_an_empty_list_says_how_to_begin(settings: Settings) -> None:
    for command in (("partners", "list"), ("status",)):
        assert rsu(*command, settings=settings).stdout == "No partner yet. Add one with `rsu partners add NAME`.\n"


def test_a_key_that_another_partner_has_is_refused_unless_it_is_meant_and_then_shown(
    settings: Settings, sandbox: SandboxProcess
) -> None:
    key, secret = access(sandbox)
    assert add(settings, key, secret, "--no-check").returncode == 0
    text = refusal(add(settings, key, secret, "--no-check", name="Birch Timing"))
    assert text.startswith("1-juniper-timing has this API key already.") and "--shared-key" in text
    assert key not in text and secret not in text
    assert "share one API key" not in rsu("partners", "list", settings=settings).stdout
    assert add(settings, key, secret, "--no-check", "--shared-key", name="Birch Timing").returncode == 0
    for command in (("partners", "list"), ("status",)):
        shown = rsu(*command, settings=settings).stdout
        assert shown.endswith("1-juniper-timing and 2-birch-timing share one API key and its calls.\n")
    text = refusal(add(settings, "another", secret, "--no-check", name="juniper  TIMING"))
    assert text.startswith("There is a partner named 'Juniper Timing' (1-juniper-timing)")
