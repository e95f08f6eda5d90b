"""Undo an adoption: the older program's tables get their old shape back, and this program's objects go.

Adoption records the shape that it found. The way back compares three shapes: the old one, the present one, and what the
migrations make. Only what is in the last and not in the first is dropped. Nothing is dropped with dependent objects, so that
tables, views, functions, columns and rows of other programs stay. Rows that adoption moved come back. Rows keep what was
read since.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.adoption import rows
from rsu_pipeline.adoption.facts import ADOPTED
from rsu_pipeline.adoption.readers import FILL_FUNCTION, FILL_TRIGGER
from rsu_pipeline.adoption.shape import Column, Constraint, Named, Shape, Table, View, ident, inspect, literal
from rsu_pipeline.adoption.steps import AdoptionRefusedError, listing
from rsu_pipeline.adoption.views import TELLTALE
from rsu_pipeline.display import counted
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.secret_box import PREFIX, SecretBox

RECORD = "adoption_record"
"""The table in which adoption keeps the shape that it found."""
_VIEWS = ("unified_participants", "unified_events")


@dataclass(frozen=True)
class Record:
    """What adoption found: the shape of the older program's tables and views, and the highest id of a registration."""

    shape: Shape
    highest_id: int


def record_statements(found: Shape) -> tuple[str, ...]:
    """Return the statements by which adoption records what it found."""
    shape = Shape(
        found.schema,
        found.user,
        {name: found.tables[name] for name in ADOPTED if name in found.tables},
        {name: found.views[name] for name in _VIEWS if name in found.views},
    )
    text = json.dumps(asdict(shape), default=list)
    return (
        f"CREATE TABLE {RECORD} (adopted_at timestamptz NOT NULL DEFAULT now(), shape jsonb NOT NULL, highest_id bigint NOT NULL);"
        f"COMMENT ON TABLE {RECORD} IS 'One row: the shape that adoption found, from which `rsu db adopt --undo` goes back.';"
        f"COMMENT ON COLUMN {RECORD}.adopted_at IS 'When the database was adopted.';"
        f"COMMENT ON COLUMN {RECORD}.shape IS 'Tables and views of the program before this one, as they were.';"
        f"COMMENT ON COLUMN {RECORD}.highest_id IS 'Highest id of a registration then; what came later came from this program.'",
        f"INSERT INTO {RECORD} (shape, highest_id)"
        f" SELECT {literal(text)}, coalesce(max(id), 0) FROM runsignup_participants",
    )


def load_record(cur: Cursor) -> Record:
    """Return what adoption recorded.

    Raises:
        Refused: It recorded nothing.
    """
    cur.execute("SELECT to_regclass(%s) IS NOT NULL", (RECORD,))
    if cur.fetchone() != (True,):
        raise AdoptionRefusedError(
            "There is no record of an adoption in this database. It was not adopted, or by a version that kept none:"
            " docs/adopting.md has the steps to go back with the backup."
        )
    cur.execute(f"SELECT shape::text, highest_id FROM {RECORD}")
    text, highest = cur.fetchone() or ("{}", 0)
    return Record(read_shape(json.loads(text)), highest)


def read_shape(data: dict[str, Any]) -> Shape:
    """Return the shape that a record holds as JSON."""
    tables, views = {}, {}
    for name, table in data["tables"].items():
        tables[name] = Table(**{**table, "columns": {}, "constraints": [], "indexes": [], "triggers": []})
        tables[name].columns = {key: Column(**column) for key, column in table["columns"].items()}
        tables[name].constraints = [
            Constraint(**{**key, "columns": tuple(key["columns"])}) for key in table["constraints"]
        ]
        tables[name].indexes = [Named(**index) for index in table["indexes"]]
        tables[name].triggers = [Named(**trigger) for trigger in table["triggers"]]
    for name, view in data["views"].items():
        reads = {(relation, column) for relation, column in view["reads"]}
        triggers = [Named(**trigger) for trigger in view["triggers"]]
        views[name] = View(**{**view, "relations": tuple(view["relations"]), "reads": reads, "triggers": triggers})
    return Shape(data["schema"], data["user"], tables, views)


class Undo:
    """One way back, in the caller's transaction. `notes` lists what could not be restored."""

    def __init__(
        self, conn: Connection, cur: Cursor, wanted: Shape, secret_box: SecretBox, log: Callable[[str], None]
    ) -> None:
        self._conn, self._cur, self._wanted, self._secret_box, self._log = conn, cur, wanted, secret_box, log
        self._record = load_record(cur)
        self._old = self._record.shape
        self.notes: list[str] = []

    def run(self) -> None:
        """Do all of it.

        Raises:
            Refused: Something prevents it. The message names what.
        """
        cur, old = self._cur, self._old
        cur.execute(f"LOCK TABLE {', '.join(map(ident, old.tables))} IN ACCESS EXCLUSIVE MODE")
        cur.execute("SET CONSTRAINTS ALL IMMEDIATE")
        self._now = inspect(cur, old.schema)
        views = [name for name in TELLTALE if name in self._now.views]
        self._do("views of this program dropped", f"DROP VIEW {listed(views)}")
        for table in old.tables:
            self._each(f"{table}: triggers and foreign keys of this program dropped", self._foreign_keys_down(table))
        self._decrypt()
        self._drop_tables()
        for table in old.tables:
            self._each(f"{table}: keys and indexes of this program dropped", self._keys_down(table))
        removed = f"DELETE FROM runsignup_participants WHERE removed_at IS NOT NULL AND id > {self._record.highest_id}"
        number = self._do("removed registrations that the old program never had deleted", removed)
        self._note(number, f"{counted(number, 'removed registration')} that the old program never had deleted")
        for table in old.tables:
            self._each(f"{table}: columns of this program dropped, types as they were", self._columns(table))
        self._rows_back()
        for table in old.tables:
            self._each(f"{table}: keys, indexes, triggers and comments as they were", self._put_up(table))
        for view in old.views.values():
            self._each(f"{view.name}: as it was", _view_back(view, old.user))
        ours = [name for name in (*self._wanted.functions, f"{FILL_FUNCTION}()") if name in self._now.functions]
        self._each("functions of this program dropped", [f"DROP FUNCTION {name}" for name in ours])
        self._do("records of this program dropped", f"DROP TABLE {rows.MOVED}, {RECORD}, schema_migrations")
        self._verify()

    def _do(self, sentence: str, statement: str) -> int:
        self._log(sentence)
        try:
            self._cur.execute(statement)
        except psycopg2.errors.LockNotAvailable:
            raise
        except psycopg2.Error as error:
            if self._conn.closed:
                raise
            detail = " ".join((error.diag.message_detail or "").split())
            raise AdoptionRefusedError(
                f"There is no way back yet, and nothing was changed: {error.diag.message_primary}"
                f"{f' ({detail})' if detail else ''}. Correct what it names, and run it again."
            ) from error
        return int(self._cur.rowcount)

    def _each(self, sentence: str, statements: Iterator[str] | list[str]) -> None:
        for statement in statements:
            self._do(sentence, statement)

    def _value(self, query: str) -> int:
        self._cur.execute(query)
        return int((self._cur.fetchone() or (0,))[0])

    def _note(self, number: int, sentence: str) -> None:
        if number:
            self.notes.append(sentence)

    def _foreign_keys_down(self, name: str) -> Iterator[str]:
        """Drop the triggers that the migrations made on a table, and foreign keys that were changed."""
        old, now = self._old.tables[name], self._now.tables[name]
        definitions = {item.definition for item in self._wanted.tables[name].triggers}
        for trigger in now.triggers:
            if (trigger.definition in definitions or trigger.name == FILL_TRIGGER) and trigger not in old.triggers:
                yield f"DROP TRIGGER {ident(trigger.name)} ON {ident(name)}"
        yield from self._constraints_down(name, foreign=True)

    def _keys_down(self, name: str) -> Iterator[str]:
        """Drop the other keys and the indexes that the migrations made on a table and the older program did not have."""
        yield from self._constraints_down(name, foreign=False)
        before = {index.definition for index in self._old.tables[name].indexes}
        made = {index.definition for index in self._wanted.tables[name].indexes}
        for index in self._now.tables[name].indexes:
            if index.definition in made - before:
                yield f"DROP INDEX {ident(index.name)}"

    def _constraints_down(self, name: str, *, foreign: bool) -> Iterator[str]:
        old, ours = self._old.tables[name], self._wanted.tables[name]
        kept = {(key.name, key.definition) for key in old.constraints}
        made = {key.definition for key in ours.constraints} | {_unique(key.definition) for key in ours.constraints}
        for key in self._now.tables[name].constraints:
            # A key that cascaded is a plain one now, under its old name.
            is_changed = foreign and any(key.name == other.name for other in old.constraints)
            if (
                (key.kind == "f") == foreign
                and (key.name, key.definition) not in kept
                and (key.definition in made or is_changed)
            ):
                yield f"ALTER TABLE {ident(name)} DROP CONSTRAINT {ident(key.name)}"

    def _decrypt(self) -> None:
        """Decrypt keys and secrets, because the older program reads them in clear."""
        if "partner_provider_credentials" not in self._old.tables:
            return
        self._log("partner_provider_credentials: keys and secrets in clear again")
        self._cur.execute(
            "SELECT c.partner_provider_credential_id, c.principal, c.secret FROM partner_provider_credentials c"
            " JOIN providers v USING (provider_id) WHERE lower(v.name) = %s"
            " AND (c.principal LIKE %s OR c.secret LIKE %s)",
            (PROVIDER, f"{PREFIX}%", f"{PREFIX}%"),
        )
        for number, *sealed in self._cur.fetchall():
            clear = [self._secret_box.decrypt(text) if text and text.startswith(PREFIX) else text for text in sealed]
            self._cur.execute(
                "UPDATE partner_provider_credentials SET principal = %s, secret = %s WHERE partner_provider_credential_id = %s",
                (*clear, number),
            )

    def _drop_tables(self) -> None:
        ours = [name for name in self._wanted.tables if name not in self._old.tables and name in self._now.tables]
        names = [name for name in ours if name != "schema_migrations"]
        self._do("tables of this program dropped", f"DROP TABLE {listed(names)}")

    def _columns(self, name: str) -> Iterator[str]:
        old, now, ours = self._old.tables[name], self._now.tables[name], self._wanted.tables[name]
        gone = [column for column in now.columns if column in ours.columns and column not in old.columns]
        clauses = [f"DROP COLUMN {ident(column)}" for column in gone]
        for column in old.columns.values():
            present = now.columns.get(column.name)
            if present is None or present.made:
                continue
            if present.type != column.type:
                number = self._value(f"SELECT count(*) FROM {ident(name)} WHERE NOT coalesce({_fits(column)}, true)")
                if number:
                    self._note(
                        number, f"{name}.{column.name} stays {present.type}: {counted(number, 'value')} would not fit"
                    )
                else:
                    clauses.append(f"ALTER COLUMN {ident(column.name)} TYPE {column.type}")
            if present.not_null and not column.not_null:
                clauses.append(f"ALTER COLUMN {ident(column.name)} DROP NOT NULL")
            if column.default is None and present.default is not None:
                clauses.append(f"ALTER COLUMN {ident(column.name)} DROP DEFAULT")
        if clauses:
            yield f"ALTER TABLE {ident(name)} {', '.join(clauses)}"

    def _rows_back(self) -> None:
        for name, table in self._old.tables.items():
            names = listed([column for column, what in table.columns.items() if what.made != "generated"])
            number = self._do(
                f"{name}: moved rows put back",
                f"INSERT INTO {ident(name)} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM ("
                f'SELECT (jsonb_populate_record(NULL::{ident(name)}, "row")).* FROM {rows.MOVED}'
                f" WHERE table_name = {literal(name)} ORDER BY adopted_row_id) r",
            )
            self._note(number, f"{counted(number, 'moved row')} put back into {name}")

    def _put_up(self, name: str) -> Iterator[str]:
        """Give a table back the keys, indexes, triggers, comments and the owner that it had."""
        old = self._old.tables[name]
        now = inspect(self._cur, self._old.schema).tables[name]
        yield from self._not_null(old, now)
        there = {key.definition for key in now.constraints}
        for key in sorted(old.constraints, key=lambda key: key.kind == "f"):
            if key.definition not in there:
                yield f"ALTER TABLE {ident(name)} ADD CONSTRAINT {ident(key.name)} {key.definition}"
        by_definition = {index.definition: index.name for index in now.indexes}
        taken = set(by_definition.values())
        for index in old.indexes:
            present = by_definition.get(index.definition)
            if present is None:
                yield index.definition.replace(" INDEX ON ", f" INDEX {ident(index.name)} ON ", 1)
            elif index.name not in taken:
                yield f"ALTER INDEX {ident(present)} RENAME TO {ident(index.name)}"
        for trigger in old.triggers:
            if trigger not in now.triggers:
                yield trigger.definition
        if now.comment != old.comment:
            yield f"COMMENT ON TABLE {ident(name)} IS {_text(old.comment)}"
        for column in old.columns.values():
            if column.name in now.columns and now.columns[column.name].comment != column.comment:
                yield f"COMMENT ON COLUMN {ident(name)}.{ident(column.name)} IS {_text(column.comment)}"
        if now.owner != old.owner:
            yield f"ALTER TABLE {ident(name)} OWNER TO {ident(old.owner)}"

    def _not_null(self, old: Table, now: Table) -> Iterator[str]:
        for column in old.columns.values():
            if not column.not_null or now.columns[column.name].not_null:
                continue
            if number := self._value(f"SELECT count(*) FROM {ident(old.name)} WHERE {ident(column.name)} IS NULL"):
                self._note(number, f"{old.name}.{column.name} may stay NULL: it is in {counted(number, 'row')}")
            else:
                yield f"ALTER TABLE {ident(old.name)} ALTER COLUMN {ident(column.name)} SET NOT NULL"

    def _verify(self) -> None:
        """Raise Refused when a table lacks something that it had, except what `notes` lists."""
        found = inspect(self._cur, self._old.schema)
        for name, old in self._old.tables.items():
            now = found.tables[name]
            lost = [column for column in old.columns if column not in now.columns]
            lost += [
                item.name for item in old.constraints if item.definition not in {k.definition for k in now.constraints}
            ]
            lost += [item.name for item in old.indexes if item.definition not in {k.definition for k in now.indexes}]
            lost += [item.name for item in old.triggers if item not in now.triggers]
            if lost:
                raise AdoptionRefusedError(
                    f"The way back would leave {name} without {listing(lost)}, so nothing was changed."
                )
        missing = [name for name in self._old.views if name not in found.views]
        if missing:
            raise AdoptionRefusedError(f"The way back would leave no view {missing[0]}, so nothing was changed.")


def listed(names: list[str]) -> str:
    """Return names as SQL, with commas."""
    return ", ".join(map(ident, names))


def _unique(definition: str) -> str:
    return definition.replace("PRIMARY KEY", "UNIQUE", 1)


def _text(comment: str | None) -> str:
    return "NULL" if comment is None else literal(comment)


def _fits(column: Column) -> str:
    """Return SQL for whether a value fits the column's old type."""
    name, kind = ident(column.name), column.type
    if kind == "integer":
        return f"{name} BETWEEN -2147483648 AND 2147483647"
    if kind == "smallint":
        return f"{name} BETWEEN -32768 AND 32767"
    limit = kind.partition("(")[2].rstrip(")")
    with suppress(ValueError):
        return f"length({name}) <= {int(limit)}"
    return "true"


def _view_back(view: View, user: str) -> list[str]:
    """Return the statements that recreate a view with its readers' rights."""
    options = f" WITH ({view.options})" if view.options else ""
    return [
        f"CREATE VIEW {ident(view.name)}{options} AS {view.definition}",
        *([f"COMMENT ON VIEW {ident(view.name)} IS {literal(view.comment)}"] if view.comment else []),
        *(trigger.definition for trigger in view.triggers),
        *view.grants,
        *([f"ALTER VIEW {ident(view.name)} OWNER TO {ident(view.owner)}"] if view.owner != user else []),
    ]
