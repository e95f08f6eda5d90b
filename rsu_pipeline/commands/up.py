"""`rsu up` and `rsu demo`: everything an installation needs, in the foreground, until Ctrl-C."""

import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import click
import requests

from rsu_pipeline import installation
from rsu_pipeline import settings as configuration
from rsu_pipeline.installation import Installation
from rsu_pipeline.processes import Child, ChildFailed, Supervisor
from rsu_pipeline.settings import SettingsError
from rsu_pipeline.warehouse import credentials, database, history

DEMO_SANDBOX_PORT = 8765
DEMO_SEED = 7


@click.command()
@click.option("--verbose", is_flag=True, help="Show what the web UI and the daemon print; it is in .rsu/logs anyway.")
def up(verbose: bool) -> None:
    """Start the web UI and the daemon, and the embedded PostgreSQL if RSU_DATABASE_URL is not set.

    Ctrl-C stops everything it started. The web UI is at http://127.0.0.1:3000 (RSU_UI_PORT), for this machine only.
    """
    here = installation.current()
    sys.exit(_serve(here, {}, [], verbose=verbose, hint=""))


@click.command()
@click.option("--fresh", is_flag=True, help="Forget the demo's data and start anew.")
@click.option(
    "--env", "show_environment", is_flag=True, help="Print the settings that point other commands at the demo."
)
@click.option("--verbose", is_flag=True, help="Show what the servers print.")
def demo(fresh: bool, show_environment: bool, verbose: bool) -> None:
    """Start everything with a local RunSignup and its invented partners: no account needed.

    The demo keeps its own data in .rsu/demo and goes on with it when started again. While it runs, people register
    there and bibs are assigned. In another terminal:

    \b
      eval "$(rsu demo --env)"
      rsu status
      rsu sync
    """
    # The demo never touches a real database nor calls the real RunSignup, whatever the environment says.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RSU_")},
        "RSU_HOME": str(configuration.load(os.environ | {"RSU_HOME": ""}).home / "demo"),
        "RSU_API_BASE_URL": f"http://127.0.0.1:{DEMO_SANDBOX_PORT}/Rest",
        "RSU_UI_PORT": os.environ.get("RSU_UI_PORT", "") or "3000",
    }
    if show_environment:
        for name in ("RSU_HOME", "RSU_API_BASE_URL", "RSU_UI_PORT"):
            click.echo(f"export {name}={environment[name]}")
        click.echo("unset RSU_DATABASE_URL RSU_SECRET_KEY")
        return
    for name in [name for name in os.environ if name.startswith("RSU_")]:
        del os.environ[name]
    os.environ.update(environment)
    here = Installation(configuration.load(environment))
    if fresh:
        _forget(here.settings.home)
    here.settings.home.mkdir(parents=True, exist_ok=True)
    sandbox = Child(
        "sandbox",
        [sys.executable, "-m", "rsu_pipeline.sandbox", "--port", str(DEMO_SANDBOX_PORT), "--scale", "small",
         "--seed", str(DEMO_SEED), "--live", "--exit-with-parent", "--state", str(here.settings.home / "sandbox.state")],
        ready=lambda: _answers(f"http://127.0.0.1:{DEMO_SANDBOX_PORT}/admin/partners"),
    )  # fmt: skip
    _refuse_taken_port(DEMO_SANDBOX_PORT, "the demo's RunSignup", "end what uses it")
    hint = 'In another terminal: eval "$(.venv/bin/rsu demo --env)"; .venv/bin/rsu status'
    sys.exit(_serve(here, {}, [sandbox], verbose=verbose, hint=hint, onboard=True))


def _serve(
    here: Installation,
    extra: Mapping[str, str],
    before: list[Child],
    *,
    verbose: bool,
    hint: str,
    onboard: bool = False,
) -> int:
    """Starts the children and waits; returns the exit code."""
    settings = here.settings
    root = configuration.project_root()
    os.chdir(root)
    ui = f"http://127.0.0.1:{settings.ui_port}"
    _refuse_taken_port(settings.ui_port, "the web UI", "set RSU_UI_PORT to another one, or end what uses it")
    click.echo(f"Database: {'RSU_DATABASE_URL' if settings.database_url else 'embedded PostgreSQL'}, starting ...")
    url = here.migrated_database_url
    _ = here.sealer  # the key file is made now, and a bad key refused before anything runs
    click.echo(f"Database ready at {database.place(url)}.")
    environment = {
        "RSU_DATABASE_URL": url,
        "RSU_HOME": str(settings.home),
        "DAGSTER_HOME": str(root),
        "PYTHONUNBUFFERED": "1",
        **extra,
    }
    scripts = Path(sys.executable).parent
    dagster = [
        Child(
            "web",
            [
                str(scripts / "dagster-webserver"),
                "-h",
                "127.0.0.1",
                "-p",
                str(settings.ui_port),
                "-w",
                "workspace.yaml",
            ],
            env=environment,
            ready=lambda: _answers(f"{ui}/server_info"),
            ready_timeout=120,
            restart=True,
        ),
        Child(
            "daemon", [str(scripts / "dagster-daemon"), "run", "-w", "workspace.yaml"], env=environment, restart=True
        ),
    ]

    def echo(name: str, line: str) -> None:
        if verbose:
            click.echo(f"{name:8} | {line}")

    try:
        with Supervisor(echo=echo, log_dir=settings.home / "logs") as supervisor:
            for child in before:
                click.echo(f"Starting {child.name} ...")
                supervisor.start(child)
            if onboard:
                _onboard(here)
            click.echo("Starting the web UI and the daemon ...")
            for child in dagster:
                supervisor.start(child)
            click.echo(
                f"\n  Web UI: {ui}\n\n{hint}\nLogs: {settings.home / 'logs'}. Ctrl-C stops everything.".replace(
                    "\n\n\n", "\n\n"
                )
            )
            threading.Thread(target=_tell_when_synced, args=(url,), daemon=True).start()
            code = supervisor.wait()
            click.echo("Stopping ...")
    except ChildFailed as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("Stopped before everything had started.")
        return 130
    click.echo("Stopped.")
    return code


def _onboard(here: Installation) -> None:
    """Enters the sandbox's partners that are not there yet."""
    listed = requests.get(f"http://127.0.0.1:{DEMO_SANDBOX_PORT}/admin/partners", timeout=10).json()
    with database.session(here.migrated_database_url, purpose="demo") as conn:
        present = {partner.name for partner in credentials.partners(conn)}
        for item in listed:
            if item["name"] not in present:
                credentials.add(conn, here.sealer, name=item["name"], principal=item["key"], secret=item["secret"])
        conn.commit()


def _tell_when_synced(url: str) -> None:
    """Says once when every partner has been read."""
    with suppress(database.DatabaseError, OSError), database.session(url, purpose="up") as conn:
        conn.autocommit = True
        while True:
            rows = [row for row in history.partner_status(conn)]
            if rows and all(row.last_sync for row in rows):
                total = sum(row.participants for row in rows)
                click.echo(f"All {len(rows)} partners are synced: {total:,} participants.")
                return
            time.sleep(1)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


def _refuse_taken_port(port: int, what: str, remedy: str) -> None:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise SettingsError(f"Port {port} for {what} is in use: {remedy}.") from None


def _forget(home: Path) -> None:
    """Removes the demo's data, and nothing else."""
    import shutil

    from rsu_pipeline.warehouse import embedded

    if home.exists():
        embedded.destroy(home / "postgres")
        shutil.rmtree(home)
    click.echo(f"Removed {home}.")
