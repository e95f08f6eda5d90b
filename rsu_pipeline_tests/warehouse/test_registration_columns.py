"""The declaration of a registration's columns agrees with the table, the payload's struct and what is made of it."""

import json
import re
import subprocess
import sys

import pytest

from rsu_pipeline.runsignup.payloads import Registration, User
from rsu_pipeline.sync import included_rows
from rsu_pipeline.warehouse.registration_columns import (
    CONTENT,
    MEMBERS,
    REGISTRATION,
    REMOVAL,
    Parser,
    Privacy,
    field_name,
)
from rsu_pipeline_tests.warehouse import new_column
from rsu_pipeline_tests.warehouse.sessions import rows

OF_STRUCT = {"user", "raw", "faults", "drift"}
"""Fields of the struct that are no field of RunSignup's row with a value of their own."""
SHORT = {"timestamp without time zone": "timestamp", "timestamp with time zone": "timestamptz"}


def test_every_declared_column_has_its_type_in_the_database(database_url: str) -> None:
    stored = dict(
        rows(
            database_url,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'runsignup_participants'::regclass AND attnum > 0 AND NOT attisdropped",
        )
    )
    stored = {name: SHORT.get(kind, kind).replace("character varying", "varchar") for name, kind in stored.items()}
    assert {name: column.type for name, column in REGISTRATION.items()} == stored


def test_every_column_and_field_of_the_payload_is_declared_once() -> None:
    columns = [column.source for column in (*CONTENT, *REMOVAL) if column.source]
    declared = columns + [member.name for member in MEMBERS]
    assert len(declared) == len(set(declared))
    read = {*Registration.__struct_fields__} - OF_STRUCT - {*included_rows._MEMBERS}
    read |= {f"user.{name}" for name in User.__struct_fields__}
    assert set(declared) == read, "a field of the payload's struct and the declaration differ"


def test_a_declared_column_that_is_read_has_a_parser() -> None:
    assert [column.name for column in (*CONTENT, *REMOVAL) if column.parser is None] == []
    by_source = {column.name for column in CONTENT if column.source}
    without = {
        column.name for column in CONTENT if column.parser in (Parser.RACE, Parser.MEMBERS, Parser.ROW, Parser.INCLUDED)
    }
    assert by_source | without == {column.name for column in CONTENT} and not by_source & without
    assert {member.column for member in MEMBERS} == {c.name for c in CONTENT if c.parser is Parser.MEMBERS}


def test_the_parts_of_a_staged_line_come_in_the_order_in_which_it_is_built() -> None:
    order = [Parser.OBJECT, Parser.MEMBERS, Parser.ROW, Parser.INCLUDED]
    places = [order.index(column.parser) if column.parser in order else -1 for column in CONTENT]
    assert places == sorted(places)
    # staging finds a line's registration at its third place.
    assert CONTENT[2].name == "registration_id"


def test_a_write_of_another_program_to_any_column_that_is_read_is_noted(database_url: str) -> None:
    ((definition,),) = rows(
        database_url,
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
        " WHERE tgrelid = 'runsignup_participants'::regclass AND tgname = 'note_foreign_write'",
    )
    watched = set(re.findall(r"\w+", definition.partition(" UPDATE OF ")[2].partition(" ON ")[0]))
    missing = {column.name for column in (*CONTENT, *REMOVAL)} - watched
    assert not missing, f"make the trigger note_foreign_write again with {sorted(missing)}"


@pytest.mark.parametrize("name", ["email", "dob", "phone"])
def test_a_field_of_the_payload_is_blanked_as_its_column_is(name: str) -> None:
    column = REGISTRATION[name]
    assert column.privacy is Privacy.CONTACT and field_name(column) == name
    kept = REGISTRATION["payload"].after_purge
    assert kept and kept.of_part
    assert name not in (*kept.names, *kept.of_part.names) and "first_name" in kept.of_part.names


def test_a_new_column_touches_its_declaration_its_migration_and_the_payloads_struct(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, new_column.__file__, database_url], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["blue", "green", None]
