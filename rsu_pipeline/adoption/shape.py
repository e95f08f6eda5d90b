"""The shape of a schema: its tables, views and functions, as PostgreSQL's catalog has them.

Every definition is SQL that means the same in another schema: names are written as the schema's own search path shows
them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.sql_files import load

_SQL = load(__file__)


@dataclass(frozen=True)
class Column:
    """A column. `type` is as format_type writes it. `made` is how its value is made: `identity`, `generated` or empty."""

    name: str
    type: str
    not_null: bool
    default: str | None
    made: str
    comment: str | None


@dataclass(frozen=True)
class Constraint:
    """A constraint.

    Attributes:
        kind: p (primary key), u (unique), f (foreign key) or another letter of pg_constraint.
        target: For a foreign key, the table it names.
        on_delete: For a foreign key, the letter of its action on delete. a and r refuse.
    """

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...]
    target: str | None
    on_delete: str


@dataclass(frozen=True)
class Named:
    """An index or a trigger. An index's definition leaves out its name."""

    name: str
    definition: str


@dataclass
class Table:
    """A table, or another relation that has its name.

    Attributes:
        kind: pg_class.relkind, r for a plain table.
        is_owned: Whether the session's role may act as the owner.
        has_row_security: Whether policies decide which rows are visible.
    """

    name: str
    kind: str
    comment: str | None
    columns: dict[str, Column] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)
    indexes: list[Named] = field(default_factory=list)
    triggers: list[Named] = field(default_factory=list)
    owner: str = ""
    is_owned: bool = True
    has_row_security: bool = False

    def primary_key(self) -> tuple[str, ...]:
        return next((key.columns for key in self.constraints if key.kind == "p"), ())


@dataclass
class View:
    """A view.

    Attributes:
        options: Those of CREATE VIEW.
        relations: All tables and views that it reads.
        columns: Names with types, in order.
        grants: GRANT statements.
        reads: The (table, column) pairs of the same schema that it reads.
    """

    name: str
    definition: str
    comment: str | None
    owner: str
    options: str
    relations: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    grants: list[str] = field(default_factory=list)
    triggers: list[Named] = field(default_factory=list)
    reads: set[tuple[str, str]] = field(default_factory=set)
    is_owned: bool = True
    column_comments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Referrer:
    """A foreign key of any table that references this schema. `action` is the letter of its action on delete."""

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    action: str


@dataclass(frozen=True)
class Dependent:
    """An object that depends on a relation of this schema, or on one `column` of it.

    Attributes:
        catalog: The catalog of the dependent object.
        what: The object as PostgreSQL describes it.
    """

    catalog: str
    what: str
    relation: str
    column: str


@dataclass
class Shape:
    """A schema.

    Attributes:
        functions: Signatures.
        readers: (view, relation, column): which views of any schema read which columns of this one.
        heirs: (child, parent) pairs of inheriting tables.
        rights: Whether the role may create objects, by place.
    """

    schema: str
    user: str
    tables: dict[str, Table] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    relations: set[str] = field(default_factory=set)
    functions: list[str] = field(default_factory=list)
    readers: list[tuple[str, str, str]] = field(default_factory=list)
    referrers: list[Referrer] = field(default_factory=list)
    dependents: list[Dependent] = field(default_factory=list)
    heirs: list[tuple[str, str]] = field(default_factory=list)
    rights: dict[str, bool] = field(default_factory=dict)


def ident(name: str) -> str:
    """Quote a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def inspect(cur: Cursor, schema: str) -> Shape:
    """Read the shape of a schema. The transaction's search path is that schema afterwards."""
    cur.execute(f"SET LOCAL search_path TO {ident(schema)}")
    parameters = {"schema": schema}

    def rows(query: str) -> Iterable[tuple[Any, ...]]:
        cur.execute(query, parameters)
        return cur.fetchall()

    ((user,),) = rows("SELECT current_user::text")
    shape = Shape(schema, user)
    owned = {}
    for name, kind, comment, owner, is_owned, has_row_security in rows(_SQL["read_relations"]):
        shape.relations.add(name)
        owned[name] = is_owned
        if kind in ("r", "p", "f"):
            shape.tables[name] = Table(
                name, kind, comment, owner=owner, is_owned=is_owned, has_row_security=has_row_security
            )
    for name, definition, comment, owner, options, relations in rows(_SQL["read_views"]):
        definition = definition.strip().rstrip(";")
        shape.views[name] = View(name, definition, comment, owner, options or "", tuple(relations or ()))
        shape.views[name].is_owned = owned[name]
    for table, *column in rows(_SQL["read_columns"]):
        if table in shape.tables:
            shape.tables[table].columns[column[0]] = Column(*column)
        elif table in shape.views:
            shape.views[table].columns[column[0]] = column[1]
            if column[-1]:
                shape.views[table].column_comments[column[0]] = column[-1]
    for table, name, kind, definition, columns, target, on_delete in rows(_SQL["read_constraints"]):
        shape.tables[table].constraints.append(
            Constraint(name, kind, definition, tuple(columns or ()), target, on_delete)
        )
    for table, name, definition in rows(_SQL["read_indexes"]):
        if table in shape.tables:
            shape.tables[table].indexes.append(Named(name, definition))
    for relation, name, definition in rows(_SQL["read_triggers"]):
        holder = shape.tables.get(relation) or shape.views.get(relation)
        if holder is not None:
            holder.triggers.append(Named(name, definition))
    for view, grant in rows(_SQL["read_grants"]):
        shape.views[view].grants.append(grant)
    shape.functions = [signature for (signature,) in rows(_SQL["read_functions"])]
    for reader, is_here, relation, name in rows(_SQL["read_readers"]):
        if is_here and reader in shape.views:
            shape.views[reader].reads.add((relation, name))
        shape.readers.append((reader, relation, name))
    shape.referrers = [
        Referrer(table, tuple(columns), target, tuple(target_columns), action)
        for table, columns, target, target_columns, action in rows(_SQL["read_referrers"])
    ]
    shape.dependents = [Dependent(*row) for row in rows(_SQL["read_dependents"])]
    shape.heirs = [(child, parent) for child, parent in rows(_SQL["read_heirs"])]
    ((catalog, may_create_schemas, may_create),) = rows(_SQL["read_rights"])
    shape.rights = {f"DATABASE {ident(catalog)}": may_create_schemas, f"SCHEMA {ident(schema)}": bool(may_create)}
    return shape
