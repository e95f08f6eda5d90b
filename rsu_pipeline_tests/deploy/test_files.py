"""What deploy/ has started exists and takes the options it is given, and its parts agree with each other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rsu_pipeline_tests.deploy.deployed import DEPLOY, ROOT, commands, compose, document, units
from tools import lock_delta

BIN = Path(sys.executable).parent
CELERY_ONLY = {"run_launcher"}


@pytest.fixture(scope="module")
def help_texts() -> dict[tuple[str, ...], str]:
    return {}


def help_of(program: tuple[str, ...], known: dict[tuple[str, ...], str]) -> str:
    if program not in known:
        done = subprocess.run(
            [BIN / program[0], *program[1:], "--help"], capture_output=True, text=True, check=True, timeout=120
        )
        known[program] = done.stdout
    return known[program]


BECOME_THE_COMMAND = ("rsu_pipeline.orchestration.recovery", "rsu_pipeline.default_signals")


@pytest.mark.parametrize(("where", "command"), [pytest.param(*item, id=item[0]) for item in commands()])
def test_every_command_exists_and_takes_its_options(
    where: str, command: list[str], help_texts: dict[tuple[str, ...], str]
) -> None:
    if command[0] in ("python", "/bin/sh", "/opt/rsu-pipeline/deploy/backup"):
        # A module that becomes the command after it, or a script with the rsu program and its arguments.
        if "-m" in command:
            module, command = command[command.index("-m") + 1], command[3:]
            assert module in BECOME_THE_COMMAND or module == "rsu_pipeline.orchestration.webserver", where
            if module.endswith("webserver"):
                command = ["dagster-webserver", *command]  # takes its options
        else:
            assert any(Path(part).name == "backup" for part in command), where
            assert "rsu" in command, where
            return
    words = [part for part in command if not part.startswith("-")]
    depth = next((n for n, part in enumerate(command) if part.startswith("-")), len(words))
    text = help_of(tuple(command[:depth]), help_texts)
    for option in (part for part in command if part.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{where}: {option} is not in\n{text}"


def test_units_and_compose_and_chart_have_the_same_code_started() -> None:
    """Every way to run it has the same four processes."""
    joined = [" ".join(command) for _, command in commands()]
    for part in (
        "dagster api grpc",
        "rsu_pipeline.orchestration.webserver",
        "recovery dagster-daemon run",
        "rsu deliver",
    ):
        assert sum(part in line for line in joined) == 2, part
    (deployment,) = document("deploy/kubernetes/values.yaml")["dagster-user-deployments"]["deployments"]
    spec = document("deploy/kubernetes/delivery.yaml")["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"] == ["rsu", "deliver"]
    assert deployment["dagsterApiGrpcArgs"] == ["--location-name", "rsu_pipeline", "-m", "rsu_pipeline.definitions"]


def test_the_image_has_the_guarded_web_ui_in_place_of_dagsters(tmp_path: Path) -> None:
    """Dagster's chart starts it by its usual name."""
    (line,) = re.findall(
        r"^RUN (printf .*)$", re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text()), re.MULTILINE
    )
    (tmp_path / "python").symlink_to(sys.executable)
    subprocess.run(["sh", "-c", line.replace("/opt/rsu/bin", str(tmp_path))], check=True, timeout=120)
    script = (tmp_path / "dagster-webserver").read_text()
    assert "-m rsu_pipeline.orchestration.webserver " in script
    (tmp_path / "dagster-webserver").write_text(script.replace(str(tmp_path / "python"), sys.executable))
    done = subprocess.run(
        [tmp_path / "dagster-webserver", "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert "Usage: dagster-webserver" in done.stdout, done.stderr


def test_only_a_container_listens_for_others_and_a_probe_asks_by_a_name_that_is_known() -> None:
    name = "RSU_UI_BEHIND_PROXY"
    services = compose()["services"]
    assert [one for one, service in services.items() if name in service.get("environment", {})] == ["web"]
    web = document("deploy/kubernetes/values.yaml")["dagsterWebserver"]
    assert {"name": name, "value": "yes"} in web["env"]
    assert {"name": "Host", "value": "localhost"} in web["readinessProbe"]["httpGet"]["httpHeaders"]
    for path in (DEPLOY / "systemd").iterdir():
        assert name not in path.read_text(), path


def test_the_instance_is_the_same_everywhere_but_for_what_carries_the_runs() -> None:
    ours = document("dagster.yaml")
    celery = document("deploy/celery/dagster.yaml")
    # How long a run goes back into the queue that could not be launched: there is a broker, too, that may be down.
    retries = {"max_user_code_failure_retries", "user_code_failure_retry_delay"}
    for instance in (queued := {"ours": dict(ours), "celery": celery}).values():
        config = instance["run_coordinator"]["config"]
        instance["run_coordinator"] = instance["run_coordinator"] | {
            "config": {name: value for name, value in config.items() if name not in retries}
        }
    ours_queued, celery = queued["ours"], queued["celery"]
    assert {name for name in ours.keys() | celery.keys() if ours_queued.get(name) != celery.get(name)} == CELERY_ONLY
    chart = document("deploy/kubernetes/values.yaml")
    additional = chart["additionalInstanceConfig"]
    coordinator = chart["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    # The chart writes the storage and the launcher itself, and the logs of runs stay in their pods.
    written = {"storage", "run_launcher", "compute_logs", "run_coordinator", "telemetry"}
    assert additional == {name: value for name, value in ours.items() if name not in written}
    assert coordinator == ours["run_coordinator"]
    assert chart["telemetry"] == ours["telemetry"]
    # What is written below must not be written by the chart too: the file would have it twice.
    daemon = chart["dagsterDaemon"]
    assert not (daemon["runMonitoring"]["enabled"] or daemon["runRetries"]["enabled"])
    assert not (daemon["sensors"]["useThreads"] or daemon["schedules"]["useThreads"])


def test_web_ui_and_daemon_are_told_where_the_code_server_listens() -> None:
    (unit_place,) = document("deploy/systemd/workspace.yaml")["load_from"]
    code = (DEPLOY / "systemd" / "rsu-code.service").read_text()
    assert f"--socket {unit_place['grpc_server']['socket']} " in code
    (compose_place,) = document("deploy/compose/workspace.yaml")["load_from"]
    command = compose()["services"][compose_place["grpc_server"]["host"]]["command"]
    assert str(compose_place["grpc_server"]["port"]) in command


def test_containers_publish_for_this_machine_only_and_can_write_nowhere_else() -> None:
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for name, service in services.items():
        if name != "postgres":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys(), name


def test_the_database_of_compose_has_its_files_where_every_version_of_the_image_allows_it() -> None:
    """Until 17 the image has them in /var/lib/postgresql/data, from 18 on in /var/lib/postgresql/18/docker."""
    postgres = compose()["services"]["postgres"]
    place = postgres["environment"]["PGDATA"]
    assert postgres["volumes"] == [f"database:{place}"]
    assert not place.startswith("/var/lib/postgresql")
    assert postgres["image"] == "postgres:${POSTGRES_VERSION:-16}"
    client = re.search(r"^ARG POSTGRESQL_CLIENT=(\d+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert client and int(client[1]) >= 18, "the image's client is as new as the newest server"
    # The server that prepares the database answers at its socket alone; the migration must not begin with it.
    assert postgres["healthcheck"]["test"][2:4] == ["--host", "127.0.0.1"]
    assert compose()["services"]["migrate"]["command"][:4] == ["rsu", "db", "migrate", "--wait"]


def test_no_secret_is_written_down() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.name != "requirements.txt" and path.suffix != ".pyc":
            text = path.read_text()
            assert not re.search(r"postgres(?:ql)?://[^\s:/@$]+:[^\s$@]+@", text), path
            assert not re.search(r"(?i)password:[ \t]*[\"']?\w", text.replace("postgresql-password", "")), path


ADDED = {
    "requirements-dev.txt": ("requirements.txt", "dagster-celery[redis]"),
    "deploy/celery/requirements.txt": ("../../requirements.txt", "dagster-celery[redis]"),
    "deploy/kubernetes/requirements.txt": ("../../requirements.txt", "dagster-k8s"),
    "rsu_pipeline_tests/installation/dg/requirements.txt": ("../../../requirements.txt", "dagster-rest-resources"),
}


@pytest.mark.parametrize("lock", ADDED)
def test_a_lock_includes_what_runs_and_repeats_none_of_it(lock: str) -> None:
    text, base = (ROOT / lock).read_text(), (ROOT / "requirements.txt").read_text()
    include, library = ADDED[lock]
    assert text.startswith(f"-r {include}\n") and (ROOT / lock).parent.joinpath(include).samefile(
        ROOT / "requirements.txt"
    )
    pins = lock_delta.pins(text)
    assert pins and not set(pins) & set(lock_delta.pins(base)), "renew the locks with `make lock`"
    versions = dict(lock_delta.version_pinned(pin).split("==") for pin in pins + lock_delta.pins(base))
    assert versions[library] == versions["dagster-postgres"]
    for pin in pins:
        assert "==" in pin and " \\\n    --hash=sha256:" in pin, pin


def test_a_lock_that_contradicts_what_runs_is_no_delta() -> None:
    base = "a==1 \\\n    --hash=sha256:1\nb==1 ; os_name == 'nt' \\\n    --hash=sha256:2\n"
    more = base + "c==3 \\\n    --hash=sha256:3 \\\n    --hash=sha256:4\n"
    added = "-r r.txt\nc==3 \\\n    --hash=sha256:3 \\\n    --hash=sha256:4\n"
    assert lock_delta.delta(more, base, "r.txt") == added
    assert lock_delta.delta(base.replace(" ; os_name == 'nt'", ""), base, "r.txt") == (
        "-r r.txt\nb==1 \\\n    --hash=sha256:2\n"
    ), "the wider marker counts"
    for other in (more.replace("a==1", "a==2"), added):
        with pytest.raises(ValueError, match="a==1"):
            lock_delta.delta(other, base, "r.txt")


class TestDockerfile:
    def lines(self) -> list[str]:
        text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    def test_everything_it_copies_is_there_and_not_ignored(self) -> None:
        kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied: list[str] = []
        for line in self.lines():
            if line.startswith("COPY ") and "--from=" not in line:
                copied += line.split()[1:-1]
        assert copied
        copied.remove("${REQUIREMENTS}")
        copied += [name for name in ADDED if name.startswith("deploy/")]
        for name in copied:
            assert (ROOT / name).exists(), name
            assert name in kept, f"{name} is left out by .dockerignore"

    def test_it_installs_by_hash_and_runs_as_nobody_in_particular(self) -> None:
        lines = self.lines()
        for line in lines:
            for install in re.findall(r"pip install [^&]*", line):
                assert "--require-hashes" in install or "--no-index" in install, install
        last_stage = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
        assert "USER 10001:10001" in last_stage, "Kubernetes' runAsNonRoot takes numbers only"
        assert any(line.startswith("HEALTHCHECK ") and '"rsu", "health"' in line for line in last_stage)
        assert not any(line.startswith(("ARG ", "ENV ")) and "SECRET" in line for line in lines)


def test_what_builds_the_package_is_pinned_and_is_all_that_the_guides_use() -> None:
    build, development = ((ROOT / name).read_text() for name in ("requirements-build.txt", "requirements-dev.txt"))
    assert re.match(r"setuptools==\S+ \\\n    --hash=sha256:", build)
    assert build.count("==") == 1
    assert build in development, "renew the locks with `make lock`"
    guides = {
        path.name: path.read_text() for path in [ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").glob("*.md")]
    }
    found = [line for text in guides.values() for line in re.findall(r"pip install [^&\n]*", text) if "-e ." in line]
    assert len(found) >= 3
    for line in found:
        assert {"--no-deps", "--no-build-isolation"} <= set(line.split()), line
    # Without isolation the tools must be there first.
    deploy = guides["deploy.md"]
    assert deploy.count("-r requirements-build.txt") == deploy.count("--no-build-isolation -e .")


def test_the_chart_is_told_of_classes_that_are_there() -> None:
    from importlib import import_module

    def classes(values: Any) -> list[tuple[str, str]]:
        if isinstance(values, dict):
            own = [(values["module"], values["class"])] if {"module", "class"} <= values.keys() else []
            return own + [found for value in values.values() for found in classes(value)]
        return [found for value in values for found in classes(value)] if isinstance(values, list) else []

    found = classes(document("deploy/kubernetes/values.yaml"))
    assert len(found) == 3
    for module, name in found:
        assert hasattr(import_module(module), name)


def test_every_file_is_read_by_a_test_or_a_person() -> None:
    """No unit and no YAML file that cannot be parsed."""
    assert len(units("service")) == 7
    for path in DEPLOY.rglob("*.yaml"):
        assert yaml.safe_load(path.read_text()), path
