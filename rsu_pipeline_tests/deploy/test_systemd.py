"""The units by systemd's own judgement, where it is installed, and what they require of each other, everywhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rsu_pipeline_tests.deploy.deployed import DEPLOY, INSTALLED, ROOT, unit, units

ANALYZE = shutil.which("systemd-analyze")
EXPOSURE = 2.0
"""Of 10, by systemd-analyze security; up to 2 is OK."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Provide the units as docs/deploy.md installs them, but for this checkout's place."""
    if ANALYZE is None:
        pytest.skip("systemd-analyze is not here: the tests that need no systemd still read the units")
    for name in units():
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace(INSTALLED, str(ROOT)))
    shared = tmp_path / "rsu-.service.d"
    shared.mkdir()
    (shared / "common.conf").write_text((DEPLOY / "systemd" / "common.conf").read_text().replace(INSTALLED, str(ROOT)))
    return tmp_path


def analyze(folder: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    assert ANALYZE
    environment = dict(os.environ) | {"SYSTEMD_UNIT_PATH": f"{folder}:", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [ANALYZE, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    done = analyze(installed, "verify", "--man=no", *(installed / name for name in units()))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_find_a_mistake(installed: Path) -> None:
    path = installed / "rsu-web.service"
    path.write_text(path.read_text().replace("/python -m", "/no-such-program -m").replace("Restart=", "Restrat="))
    done = analyze(installed, "verify", "--man=no", path)
    assert "no-such-program" in done.stderr
    assert "Restrat" in done.stderr


@pytest.mark.parametrize("name", units("service"))
def test_a_service_is_exposed_to_little(installed: Path, name: str) -> None:
    done = analyze(installed, "security", "--offline=yes", "--no-pager", installed / name)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


def test_the_workers_unit_is_as_good(installed: Path) -> None:
    text = (DEPLOY / "celery" / "rsu-worker.service").read_text()
    # Where Celery is not installed, its place is taken by a program that is.
    celery = f"{INSTALLED}/.venv/bin/celery"
    assert celery in text
    (installed / "rsu-worker.service").write_text(text.replace(celery, "/bin/true").replace(INSTALLED, str(ROOT)))
    done = analyze(installed, "verify", "--man=no", installed / "rsu-worker.service")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_everything_stops_and_starts_with_the_target() -> None:
    wanted = set(" ".join(unit("rsu.target")["Unit"]["Wants"]).split())
    assert wanted <= set(units())
    for name in wanted | {"rsu-migrate.service"}:
        assert unit(name)["Unit"]["PartOf"] == ["rsu.target"], name


def test_the_schema_comes_first_and_the_code_server_before_those_that_ask_it() -> None:
    for name in ("rsu-code.service", "rsu-web.service", "rsu-daemon.service", "rsu-delivery.service"):
        section = unit(name)["Unit"]
        assert section["Requires"] == ["rsu-migrate.service"]
        assert "rsu-migrate.service" in " ".join(section["After"])
        assert unit(name)["Service"]["Restart"] == ["always"]
    for name in ("rsu-web.service", "rsu-daemon.service"):
        assert "rsu-code.service" in " ".join(unit(name)["Unit"]["After"])


def test_a_backup_writes_where_it_may() -> None:
    (folder,) = unit("rsu-backup.service")["Service"]["ReadWritePaths"]
    assert folder in unit("rsu-backup.service")["Service"]["ExecStart"][0].split()
