"""The shape of a schema: its tables, views and functions, as PostgreSQL's catalog has them.

Every definition is SQL that means the same in another schema: names are written as the schema's own search path shows
them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extensions import cursor as Cursor


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
    for name, kind, comment, owner, is_owned, has_row_security in rows(_RELATIONS):
        shape.relations.add(name)
        owned[name] = is_owned
        if kind in ("r", "p", "f"):
            shape.tables[name] = Table(
                name, kind, comment, owner=owner, is_owned=is_owned, has_row_security=has_row_security
            )
    for name, definition, comment, owner, options, relations in rows(_VIEWS):
        definition = definition.strip().rstrip(";")
        shape.views[name] = View(name, definition, comment, owner, options or "", tuple(relations or ()))
        shape.views[name].is_owned = owned[name]
    for table, *column in rows(_COLUMNS):
        if table in shape.tables:
            shape.tables[table].columns[column[0]] = Column(*column)
        elif table in shape.views:
            shape.views[table].columns[column[0]] = column[1]
            if column[-1]:
                shape.views[table].column_comments[column[0]] = column[-1]
    for table, name, kind, definition, columns, target, on_delete in rows(_CONSTRAINTS):
        shape.tables[table].constraints.append(
            Constraint(name, kind, definition, tuple(columns or ()), target, on_delete)
        )
    for table, name, definition in rows(_INDEXES):
        if table in shape.tables:
            shape.tables[table].indexes.append(Named(name, definition))
    for relation, name, definition in rows(_TRIGGERS):
        holder = shape.tables.get(relation) or shape.views.get(relation)
        if holder is not None:
            holder.triggers.append(Named(name, definition))
    for view, grant in rows(_GRANTS):
        shape.views[view].grants.append(grant)
    shape.functions = [signature for (signature,) in rows(_FUNCTIONS)]
    for reader, is_here, relation, name in rows(_READERS):
        if is_here and reader in shape.views:
            shape.views[reader].reads.add((relation, name))
        shape.readers.append((reader, relation, name))
    shape.referrers = [
        Referrer(table, tuple(columns), target, tuple(target_columns), action)
        for table, columns, target, target_columns, action in rows(_REFERRERS)
    ]
    shape.dependents = [Dependent(*row) for row in rows(_DEPENDENTS)]
    shape.heirs = [(child, parent) for child, parent in rows(_HEIRS)]
    ((catalog, may_create_schemas, may_create),) = rows(_RIGHTS)
    shape.rights = {f"DATABASE {ident(catalog)}": may_create_schemas, f"SCHEMA {ident(schema)}": bool(may_create)}
    return shape


_RELATIONS = """
SELECT relname::text, relkind::text, obj_description(oid, 'pg_class'), pg_get_userbyid(relowner)::text,
    pg_has_role(relowner, 'USAGE'), relrowsecurity
FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) ORDER BY relname
"""
_VIEWS = """
SELECT relname::text, pg_get_viewdef(oid), obj_description(oid, 'pg_class'), pg_get_userbyid(relowner)::text,
    array_to_string(reloptions, ', '),
    (SELECT array_agg(DISTINCT d.refobjid::regclass::text) FROM pg_rewrite r
     JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
     WHERE r.ev_class = v.oid AND d.refobjid <> v.oid)
FROM pg_class v WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relkind = 'v' ORDER BY relname
"""
_COLUMNS = """
SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
    CASE WHEN a.attidentity <> '' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated' ELSE '' END,
    col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind IN ('r', 'p', 'f', 'v')
ORDER BY c.relname, a.attnum
"""
_CONSTRAINTS = """
SELECT c.relname::text, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid, true),
    (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u (number, place)
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number),
    CASE WHEN k.confrelid <> 0 THEN k.confrelid::regclass::text END, k.confdeltype::text
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind IN ('r', 'p', 'f')
    AND k.contype IN ('p', 'u', 'f', 'c', 'x')
ORDER BY c.relname, k.conname
"""
_INDEXES = """
SELECT c.relname::text, x.relname::text,
    replace(pg_get_indexdef(i.indexrelid, 0, true), ' INDEX ' || quote_ident(x.relname) || ' ON ', ' INDEX ON ')
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND i.indisvalid
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY c.relname, x.relname
"""
_TRIGGERS = """
SELECT c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid, true)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND NOT t.tgisinternal
ORDER BY c.relname, t.tgname
"""
_GRANTS = """
SELECT g.relname::text, 'GRANT ' || g.privilege_type || g.of_column || ' ON ' || quote_ident(g.relname) || ' TO '
    || CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
    || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM (
    SELECT c.relname, c.relowner, c.relnamespace, a.privilege_type, '' AS of_column, a.grantee, a.is_grantable
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.relkind = 'v'
    UNION ALL
    SELECT c.relname, c.relowner, c.relnamespace, a.privilege_type, ' (' || quote_ident(t.attname) || ')', a.grantee,
        a.is_grantable
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
    WHERE c.relkind = 'v'
) g
WHERE g.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND g.grantee <> g.relowner
"""
_FUNCTIONS = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(quote_ident(%(schema)s)) ORDER BY 1
"""
_READERS = """
SELECT DISTINCT v.oid::regclass::text, v.relnamespace = to_regnamespace(quote_ident(%(schema)s)), c.relname::text,
    coalesce(a.attname::text, '')
FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid AND c.oid <> v.oid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
ORDER BY 1, 3, 4
"""
_REFERRERS = """
SELECT k.conrelid::regclass::text,
    (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u (number, place)
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number),
    c.relname::text,
    (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY u (number, place)
     JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number),
    k.confdeltype::text
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
WHERE k.contype = 'f' AND c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
ORDER BY 1, 3, 2
"""
_HEIRS = """
SELECT i.inhrelid::regclass::text, i.inhparent::regclass::text
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relkind = 'r' AND to_regnamespace(quote_ident(%(schema)s)) IN (c.relnamespace, p.relnamespace)
ORDER BY 1, 2
"""
_RIGHTS = """
SELECT current_database()::text, has_database_privilege(current_database(), 'CREATE'),
    has_schema_privilege(to_regnamespace(quote_ident(%(schema)s)), 'CREATE')
"""
# Objects that PostgreSQL refuses to change a column's type under, or to drop a view under. A generated column depends on
# its source directly up to PostgreSQL 14, and through its expression since. A row type depends on its relation.
_DEPENDENTS = """
SELECT d.classid::regclass::text, pg_describe_object(d.classid, d.objid, d.objsubid), c.relname::text,
    coalesce(a.attname::text, '')
FROM pg_depend d
JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind IN ('r', 'v') AND (
    (d.classid IN ('pg_policy'::regclass, 'pg_proc'::regclass))
    OR (d.classid IN ('pg_trigger'::regclass, 'pg_publication_rel'::regclass) AND d.refobjsubid > 0)
    OR (d.classid = 'pg_rewrite'::regclass AND EXISTS (
        SELECT FROM pg_rewrite r WHERE r.oid = d.objid AND r.rulename <> '_RETURN'))
    OR (d.classid = 'pg_class'::regclass AND d.objid = d.refobjid AND d.objsubid > 0 AND d.refobjsubid > 0 AND EXISTS (
        SELECT FROM pg_attribute g WHERE g.attrelid = d.objid AND g.attnum = d.objsubid AND g.attgenerated <> ''))
    OR (d.classid = 'pg_attrdef'::regclass AND EXISTS (
        SELECT FROM pg_attrdef f JOIN pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum
        WHERE f.oid = d.objid AND g.attgenerated <> '' AND f.adnum <> d.refobjsubid)))
UNION
SELECT 'row type', pg_describe_object(d.classid, d.objid, d.objsubid), c.relname::text, ''
FROM pg_class c JOIN pg_type y ON y.oid = c.reltype
JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray)
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind IN ('r', 'v') AND d.deptype = 'n'
    AND (c.relkind = 'v' OR d.classid <> 'pg_proc'::regclass)
ORDER BY 3, 2, 4
"""
