"""`rsu up` and `rsu demo`: everything an installation needs, in the foreground, until Ctrl-C."""

import errno
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from http.client import HTTPException
from pathlib import Path

import click

from rsu_pipeline import installation, private_files
from rsu_pipeline.cli import live_report, local_http
from rsu_pipeline.cli.common import describe_migrations
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.installation import Installation
from rsu_pipeline.local import embedded
from rsu_pipeline.local.supervisor import Child, ChildFailed, Supervisor
from rsu_pipeline.settings import Settings, load_settings, project_root
from rsu_pipeline.warehouse import credentials, database, server_lock

DEMO_PORT = 8765
"""Default port of the demo's RunSignup. RSU_DEMO_PORT overrides it."""
DEMO_SEED = 7
DEMO_NEWCOMER = ("Acme Timing", "InventedKeyOfAcmeTimingInTheDemo", "InventedSecretOfAcmeTimingInDemo")
"""Name, key and secret of the demo's partner that nobody has entered yet, to try `rsu partners add` with."""
MAX_SOCKET_PATH_CHARS = 100
ANSWER_SECONDS = 5.0
"""Some systems allow no more than 103 bytes."""
WITHHELD = dict.fromkeys(("RSU_SECRET_KEY", "RSU_API_REG", "RSU_API_REG_SECRET", "RSU_ALERT_URLS"))
"""Secrets that the web UI and the daemon do not get. Sensors and runs, which need them, run in the code server."""
WITHHELD_FROM_DELIVERY = {name: value for name, value in WITHHELD.items() if name != "RSU_SECRET_KEY"}
"""Secrets that the process which delivers webhooks does not get. It decrypts their addresses."""
DEMO_FILES = ("code.sock", "dagster", "logs", "sandbox.state", "secret.key", "workspace.yaml")
"""Files of the demo in its folder beside the embedded PostgreSQL."""


@click.command()
@click.option(
    "--verbose", is_flag=True, help="Show the output of the web UI and the daemon. It is in .rsu/logs anyway."
)
def up(verbose: bool) -> None:
    """Start the Dagster UI and the daemon, and the embedded PostgreSQL if RSU_DATABASE_URL is not set.

    The database's schema is migrated first, as by `rsu db migrate`.

    Ctrl-C stops everything it started. The UI is at http://127.0.0.1:3000 (RSU_UI_PORT), for this machine only.
    """
    here = installation.current()
    sys.exit(_serve(here, [], verbose=verbose, hint=""))


@click.command()
@click.option("--fresh", is_flag=True, help="Delete the demo's data and start from scratch.")
@click.option(
    "--env", "show_environment", is_flag=True, help="Print the settings that point other commands at the demo."
)
@click.option("--verbose", is_flag=True, help="Show the output of the servers.")
def demo(fresh: bool, show_environment: bool, verbose: bool) -> None:
    """Start everything with a local RunSignup and its invented partners. No account is needed.

    The demo keeps its own data in .rsu/demo (RSU_DEMO_HOME) and continues with it when started again. Its RunSignup is at
    port 8765 (RSU_DEMO_PORT). While it runs, people register there and bibs are assigned. In another terminal:

    \b
      eval "$(rsu demo --env)"
      rsu status
      rsu sync
    """
    port = _demo_port()
    environment = _demo_environment(port)
    if show_environment:
        _print_environment(environment)
        return
    for name in [name for name in os.environ if name.startswith("RSU_")]:
        del os.environ[name]
    os.environ.update(environment)
    here = Installation(load_settings(environment))
    _refuse_taken_port(port, "the demo's RunSignup", "RSU_DEMO_PORT")
    _refuse_taken_port(here.settings.ui_port, "the web UI", "RSU_UI_PORT")
    if fresh:
        _forget(here.settings.home)
    private_files.make_folder(here.settings.home)
    sandbox = Child(
        "sandbox",
        [sys.executable, "-m", "runsignup_sandbox", "--port", str(port), "--scale", "small", "--seed", str(DEMO_SEED),
         "--live", "--newcomer", *DEMO_NEWCOMER, "--exit-with-parent", "--state", str(here.settings.home / "sandbox.state")],
        ready=lambda: _answers(f"http://127.0.0.1:{port}/admin/partners"),
    )  # fmt: skip
    name, key, secret = DEMO_NEWCOMER
    hint = (
        'In another terminal: eval "$(.venv/bin/rsu demo --env)"; .venv/bin/rsu status\n'
        f'An invented partner to enter: .venv/bin/rsu partners add "{name}"\n  key {key}\n  secret {secret}'
    )
    sys.exit(_serve(here, [sandbox], verbose=verbose, hint=hint, onboard_from=port))


def _demo_port() -> int:
    text = os.environ.get("RSU_DEMO_PORT", "").strip() or str(DEMO_PORT)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise SettingsError(f"RSU_DEMO_PORT is {text!r}, but must be a whole number from 1 to 65535.")
    return int(text)


def _demo_environment(port: int) -> dict[str, str]:
    """Return all the RSU_ settings of the demo. The environment cannot point it at a real database or the real RunSignup."""
    folder = os.environ.get("RSU_DEMO_HOME", "").strip()
    return {
        "RSU_HOME": str(Path(folder).expanduser().resolve() if folder else project_root() / ".rsu" / "demo"),
        "RSU_API_BASE_URL": f"http://127.0.0.1:{port}/Rest",
        "RSU_UI_PORT": os.environ.get("RSU_UI_PORT", "").strip() or "3000",
    }


def _print_environment(environment: Mapping[str, str]) -> None:
    """Print lines for a shell: the demo's settings, and none of the project's others except those that find the same demo again."""
    for name, value in environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    kept = {"RSU_DEMO_HOME", "RSU_DEMO_PORT", *environment}
    others = {name for name in os.environ if name.startswith("RSU_")} - kept
    click.echo("unset " + " ".join(sorted(others | {"RSU_DATABASE_URL", "RSU_SECRET_KEY"})))


def _prepare(here: Installation) -> dict[str, str]:
    """Check the settings, start and migrate the database, and return the environment of the servers."""
    settings = here.settings
    root = project_root()
    os.chdir(root)
    settings.ui.check_address(settings.ui.address)
    _refuse_taken_port(settings.ui_port, "the web UI", "RSU_UI_PORT", settings.ui.address)
    click.echo(f"Database: {'RSU_DATABASE_URL' if settings.database_url else 'embedded PostgreSQL'}, starting ...")
    private_files.close_folder(settings.home)
    url = here.database_url
    server_lock.hold(url, report=lambda line: click.echo(f"Warning: {line}", err=True))
    if applied := here.migrate():
        click.echo(describe_migrations(applied))
    _ = here.secret_box  # the key file is created now, and a bad key is refused before anything runs
    click.echo(f"Database ready at {database.describe_server(url)}.")
    return {
        "RSU_DATABASE_URL": url,
        "RSU_HOME": str(settings.home),
        "DAGSTER_HOME": str(root),
        "PYTHONUNBUFFERED": "1",
        # glibc's allocator has eight arenas a core for threads, each with free memory of its own. 10 MB less in all.
        "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
    }


def _servers(settings: Settings, environment: dict[str, str], socket_path: Path, workspace: Path) -> list[Child]:
    """Return the servers in the order in which they start."""
    return [
        *_dagster_servers(settings, environment, socket_path, workspace),
        Child(
            "delivery",
            [sys.executable, "-m", "rsu_pipeline.cli.main", "deliver"],
            env=environment | WITHHELD_FROM_DELIVERY,
            restart=True,
        ),
        Child(
            "watchdog",
            # A process of its own: the alerts of the daemon's sensors end with the daemon.
            [
                *(sys.executable, "-m", "rsu_pipeline.cli.main", "health"),
                *("--alert", "--every", "30", "--code", str(socket_path)),
            ],
            env=environment,
            restart=True,
        ),
    ]


def _dagster_servers(
    settings: Settings, environment: dict[str, str], socket_path: Path, workspace: Path
) -> list[Child]:
    scripts = Path(sys.executable).parent
    return [
        Child(
            "code",
            # One for web UI, daemon and runs. Otherwise web UI and daemon have one each, and the daemon starts a new one
            # every minute.
            [
                str(scripts / "dagster"),
                *"api grpc --location-name rsu_pipeline -m rsu_pipeline.definitions --socket".split(),
                str(socket_path),
            ],
            env=environment,
            ready=lambda: _listens(socket_path),
            ready_timeout=120,
            restart=True,
        ),
        Child(
            "web",
            [
                *(sys.executable, "-m", "rsu_pipeline.orchestration.webserver", "-h", settings.ui.address),
                *("-p", str(settings.ui_port), "-w", str(workspace)),
            ],
            env=environment | WITHHELD,
            ready=lambda: _answers(f"{settings.ui_url}/server_info", Host="localhost"),
            ready_timeout=120,
            restart=True,
        ),
        Child(
            "daemon",
            # Before each start, runs that a killed daemon left as "started" are ended.
            [
                *(sys.executable, "-m", "rsu_pipeline.orchestration.recovery"),
                *(str(scripts / "dagster-daemon"), "run", "-w", str(workspace)),
            ],
            env=environment | WITHHELD,
            restart=True,
        ),
    ]


def _serve(
    here: Installation,
    before: list[Child],
    *,
    verbose: bool,
    hint: str,
    onboard_from: int | None = None,
) -> int:
    """Start the children, wait, and return the exit code.

    `onboard_from` is the port of a sandbox, one of `before`, whose partners are added.
    """
    settings = here.settings
    environment = _prepare(here)
    url = environment["RSU_DATABASE_URL"]
    socket_path, workspace = _workspace(settings.home)
    dagster = _servers(settings, environment, socket_path, workspace)

    def echo(name: str, line: str) -> None:
        if verbose:
            click.echo(f"{name:8} | {line}")

    try:
        with Supervisor(echo=echo, log_dir=settings.home / "logs") as supervisor:
            for child in before:
                click.echo(f"Starting {child.name} ...")
                supervisor.start(child)
            if onboard_from is not None:
                _onboard(here, onboard_from)
            click.echo("Starting the Dagster UI and the daemon ...")
            for child in dagster:
                supervisor.start(child)
            click.echo(
                f"\n  Dagster UI: {settings.ui_url}\n\n{hint}\nLogs: {settings.home / 'logs'}. Ctrl-C stops everything.".replace(
                    "\n\n\n", "\n\n"
                )
            )
            report = partial(live_report.report_changes, url, settings.timezone, click.echo)
            threading.Thread(target=report, daemon=True).start()
            code = supervisor.wait()
            click.echo("Stopping ...")
    except ChildFailed as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("Stopped before everything had started.")
        return 130
    # A server that had to be killed leaves it behind.
    socket_path.unlink(missing_ok=True)
    if socket_path.parent != settings.home:
        socket_path.parent.rmdir()
    click.echo("Stopped.")
    return code


def _workspace(home: Path) -> tuple[Path, Path]:
    """Return the socket of the code server, and write the file with which the web UI and the daemon find it."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "code.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_CHARS:
        path = Path(tempfile.mkdtemp(prefix="rsu-")) / "code.sock"
    path.unlink(missing_ok=True)
    workspace = home / "workspace.yaml"
    location = {"grpc_server": {"socket": str(path), "location_name": "rsu_pipeline"}}
    # JSON is YAML, and needs no escaping of the path.
    workspace.write_text(json.dumps({"load_from": [location]}) + "\n")
    return path, workspace


def _listens(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.connect(str(path))
    return True


def _onboard(here: Installation, port: int) -> None:
    """Add the sandbox's partners that are not there yet, but for the one that is for somebody to enter."""
    listed = json.loads(local_http.fetch(f"http://127.0.0.1:{port}/admin/partners", {}, timeout=ANSWER_SECONDS))
    with database.session(here.migrated_database_url, purpose="demo") as conn:
        present = {DEMO_NEWCOMER[0], *(partner.name for partner in credentials.list_partners(conn))}
        for item in listed:
            if item["name"] not in present:
                credentials.add(conn, here.secret_box, name=item["name"], principal=item["key"], secret=item["secret"])
        conn.commit()


def _answers(url: str, **headers: str) -> bool:
    try:
        local_http.fetch(url, headers, timeout=ANSWER_SECONDS)
    except (OSError, HTTPException):
        return False
    return True


def _refuse_taken_port(port: int, what: str, variable: str, address: str = "127.0.0.1") -> None:
    with closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingsError(
                    f"{what[0].upper()}{what[1:]} cannot listen on {address}: {error.strerror}."
                ) from None
            raise SettingsError(
                f"Port {port} for {what} is in use. Set {variable} to another port, or end the program that uses it."
            ) from None


def _forget(home: Path) -> None:
    """Remove the demo's data, and no other file in its folder."""
    embedded.destroy(home / "postgres")
    for path in [home / name for name in ("postgres", *DEMO_FILES)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    click.echo(f"Removed the demo's data in {home}.")
