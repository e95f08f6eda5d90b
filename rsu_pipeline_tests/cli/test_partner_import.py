"""`rsu partners import`: many partners from a file, all or none, and no secret where others can see it."""

import json
from pathlib import Path

import pytest

from rsu_pipeline_tests.cli.shell import Done, refusal, rows, rsu
from runsignup_sandbox.process import SandboxProcess

Settings = dict[str, str]
STORED = "SELECT company_name, partition_key FROM timing_partners ORDER BY timing_partner_id"
ENTERED = "SELECT timing_partner_id, entered_at FROM partner_provider_credentials ORDER BY timing_partner_id"


def write(folder: Path, text: str, *, mode: int = 0o600, name: str = "partners.csv") -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def import_(settings: Settings, file: str, *more: str, stdin: str = "") -> Done:
    return rsu("partners", "import", file, *more, settings=settings, stdin=stdin)


def stored(settings: Settings) -> list[tuple[object, ...]]:
    return [tuple(row) for row in rows(settings, STORED)]


def test_a_file_enters_its_partners_with_a_report_per_row(settings: Settings, tmp_path: Path) -> None:
    file = write(tmp_path, "name,key,secret\nJuniper Timing,k1,canary-1\n\nMill Pond,k2,canary-2\n")
    done = import_(settings, file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "line 2: 1-juniper-timing: added",
        "line 4: 2-mill-pond: added",
        "2 partners: 2 added, 0 changed, 0 unchanged, 0 refused. Their partitions appear in Dagster within a minute.",
    ]
    assert stored(settings) == [("Juniper Timing", "1-juniper-timing"), ("Mill Pond", "2-mill-pond")]
    assert all(
        secret.startswith("sealed:") for (secret,) in rows(settings, "SELECT secret FROM partner_provider_credentials")
    )


def test_importing_again_leaves_what_is_there_and_enters_what_is_new(settings: Settings, tmp_path: Path) -> None:
    import_(settings, write(tmp_path, "name,key,secret\nJuniper Timing,k1,s1\nMill Pond,k2,s2\n"))
    first = dict(rows(settings, ENTERED))
    done = import_(
        settings, write(tmp_path, "name;key;secret\r\nJuniper Timing;k1;s1\r\nMill Pond;k2;other\r\nLantern;k3;s3\r\n")
    )
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()[:3]] == ["unchanged", "changed", "added"]
    second = dict(rows(settings, ENTERED))
    assert (second[1] == first[1], second[2] == first[2]) == (True, False)


def test_nothing_is_half_entered_when_a_row_is_refused_and_every_row_is_reported(
    settings: Settings, tmp_path: Path
) -> None:
    import_(settings, write(tmp_path, "name,key,secret\nJuniper Timing,k1,s1\n"))
    file = write(
        tmp_path,
        "name,key,secret,scheme,shared_key\n"
        "Lantern,k2,s2,,\n"
        "juniper  timing,k3,s3,,\n"
        "Mill Pond,k1,s4,,\n"
        "Quill,k5,,,\n"
        "Ribbon,k6,s6,basic,\n"
        "Lantern,k7,s7,,\n"
        "Sail,k2,s8,,\n"
        "Tern,k9,s9,,perhaps\n",
    )
    done = import_(settings, file, "--json")
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["entered"] is False
    outcomes = {row["line"]: (row["outcome"], row["reason"]) for row in answer["rows"]}
    assert [outcomes[line][0] for line in range(2, 10)] == ["added", *["refused"] * 7]
    reasons = [
        "There is a partner named 'Juniper Timing'",
        "1-juniper-timing has this API key already",
        "The secret is missing",
        "The scheme must be api_key, rsu_api_key or sp_api_key.",
        "Line 2 has this name too.",
        "Line 2 has this API key too.",
        "The column shared_key must be yes or no.",
    ]
    for line, reason in enumerate(reasons, 3):
        assert reason in outcomes[line][1]
    for line in (4, 8):
        assert "or write yes in the column shared_key if both" in outcomes[line][1] and "--" not in outcomes[line][1]
    assert stored(settings) == [("Juniper Timing", "1-juniper-timing")]
    assert rows(settings, "SELECT count(*) FROM runsignup_api_keys") == [(1,)]
    text = import_(settings, file)
    assert text.stderr == "Nothing was entered. 8 partners: 1 added, 0 changed, 0 unchanged, 7 refused.\n"


def test_a_dry_run_enters_nothing(settings: Settings, tmp_path: Path) -> None:
    done = import_(settings, write(tmp_path, "name,key,secret\nJuniper Timing,k1,s1\n"), "--dry-run")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "line 2: Juniper Timing: added")
    assert stored(settings) == []


def test_what_is_refused_or_tried_uses_up_no_number_of_a_partner(settings: Settings, tmp_path: Path) -> None:
    first = write(tmp_path, "name,key,secret\nJuniper Timing,k1,s1\n")
    for _ in range(2):
        import_(settings, first, "--dry-run")
    import_(settings, first)
    refused = import_(settings, write(tmp_path, "name,key,secret\nLantern,k2,s2\nMill Pond,k1,s3\n"))
    assert refused.returncode == 2
    for name, key in (("Lantern", "k1"), ("juniper  timing", "k9")):
        refusal(rsu("partners", "add", name, "--key", key, "--no-check", settings=settings, stdin="s\n"))
    assert (
        rsu("partners", "add", "Mill Pond", "--key", "k3", "--no-check", settings=settings, stdin="s\n").returncode == 0
    )
    assert stored(settings) == [("Juniper Timing", "1-juniper-timing"), ("Mill Pond", "2-mill-pond")]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_with_secrets_that_others_can_read_is_refused(settings: Settings, tmp_path: Path, mode: int) -> None:
    text = refusal(import_(settings, write(tmp_path, "name,key,secret\nJuniper Timing,k1,canary\n", mode=mode)))
    assert "can be read by others: run chmod 600" in text
    assert "canary" not in text
    assert stored(settings) == []


def test_secrets_come_from_standard_input_a_second_file_or_the_environment(settings: Settings, tmp_path: Path) -> None:
    names = write(tmp_path, "name,key_env,secret_env\nJuniper Timing,,\nMill Pond,POND_KEY,POND_SECRET\n", mode=0o644)
    environment = settings | {"POND_KEY": "k2", "POND_SECRET": "s2"}
    secrets = "name,key,secret\nJuniper Timing,k1,s1\n"
    done = import_(environment, names, "--secrets", "-", stdin=secrets)
    assert (done.returncode, done.stderr) == (0, "")
    again = import_(environment, names, "--secrets", write(tmp_path, secrets, name="secrets.csv"))
    assert [line.rpartition(": ")[2] for line in again.stdout.splitlines()[:2]] == ["unchanged"] * 2
    whole = import_(settings, "-", stdin="name,key,secret\nJuniper Timing,k1,s1\n")
    assert whole.stdout.startswith("line 2: 1-juniper-timing: unchanged")
    unset = import_(settings, names, "--secrets", "-", stdin=secrets)
    assert "The environment variable 'POND_KEY' of key_env is not set." in unset.stdout
    assert "is not in FILE" in refusal(import_(environment, names, "--secrets", "-", stdin=secrets + "Tern,k,s\n"))


def test_a_file_that_is_no_list_of_partners_is_one_sentence_without_its_content(
    settings: Settings, tmp_path: Path
) -> None:
    for text, reason in (
        ("Juniper Timing,canary-key,canary\n", "the first line must name the columns"),
        ("name,key,password\nJ,canary,canary\n", "the first line must name the columns"),
        ("name,key,secret\nJ,canary,canary,x\n", "line 2: 4 cells for 3 columns"),
        ('name,key,secret\nJ,canary,"canary\n', "not CSV"),
        ("name,key,secret\n", "has no partners"),
        ("", "has no partners"),
    ):
        message = refusal(import_(settings, write(tmp_path, text)))
        assert reason in message
        assert "canary" not in message
    assert "cannot be read: No such file" in refusal(import_(settings, str(tmp_path / "none.csv")))
    utf16 = tmp_path / "utf16.csv"
    utf16.write_bytes("name,key,secret\nJ,k,s\n".encode("utf-16"))
    utf16.chmod(0o600)
    assert "is not UTF-8" in refusal(import_(settings, str(utf16)))


def test_a_partner_is_renamed_and_keeps_its_partition_key(settings: Settings, tmp_path: Path) -> None:
    import_(settings, write(tmp_path, "name,key,secret\nJuniper Timing,k1,s1\nMill Pond,k2,s2\n"))
    done = rsu("partners", "rename", "1", "Juniper & Sons", settings=settings)
    assert (done.returncode, done.stdout) == (0, "Partner 1-juniper-timing is named 'Juniper & Sons'.\n")
    assert stored(settings)[0] == ("Juniper & Sons", "1-juniper-timing")
    assert "2-mill-pond is named 'Mill Pond'" in refusal(
        rsu("partners", "rename", "1", "mill  POND", settings=settings)
    )
    # Its own name in another case is no other partner's.
    assert rsu("partners", "rename", "1", "juniper & sons", settings=settings).returncode == 0


def test_settings_of_a_credential_are_changed_and_another_scheme_is_tried_anew(
    settings: Settings, tmp_path: Path
) -> None:
    import_(settings, write(tmp_path, "name,key,secret\nJuniper Timing,k1,s1\n"))
    query = "SELECT credential_type, shares_api_key, entered_at FROM partner_provider_credentials"
    ((_, _, entered),) = rows(settings, query)
    assert rsu("partners", "set", "1", "--shared-key", settings=settings).returncode == 0
    assert rows(settings, query) == [("api_key", True, entered)]
    assert rsu("partners", "set", "1", "--scheme", "rsu_api_key", "--own-key", settings=settings).returncode == 0
    ((scheme, shares, later),) = rows(settings, query)
    assert (scheme, shares, later > entered) == ("rsu_api_key", False, True)
    assert "at least one option" in refusal(rsu("partners", "set", "1", settings=settings))


def test_all_partners_are_checked_side_by_side(settings: Settings, sandbox: SandboxProcess, tmp_path: Path) -> None:
    partners = sandbox.admin.partners()
    lines = [f"{item['name']},{item['key']},{item['secret']}" for item in partners]
    import_(settings, write(tmp_path, "\n".join(["name,key,secret", *lines, "Lantern,wrong,wrong"])))
    done = rsu("partners", "check", "--all", settings=settings)
    assert done.returncode == 1, done.stderr
    *each, total = done.stdout.splitlines()
    assert total == f"{len(partners) + 1} partners checked: {len(partners)} work, 1 do not."
    assert all(line.endswith("The credential works: one of its races was read.") for line in each[:-1])
    assert each[-1].startswith(f"{len(partners) + 1}-lantern: ")
    assert "wrong" not in done.stdout + done.stderr
    assert "either a PARTNER or --all" in refusal(rsu("partners", "check", settings=settings))
