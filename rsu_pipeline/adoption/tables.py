"""Steps for what one table of the older program lacks: columns, widths, keys, indexes, triggers and comments.

A table loses no column and no value. A type that has room for every value of this program stays. One that is too narrow for
what RunSignup sends is widened: `varchar(n)` to `text`, `integer` to `bigint`. Both read as before in SQL.
"""

import re

from rsu_pipeline.adoption.facts import STAND_INS, sequence_of
from rsu_pipeline.adoption.keys import KEY_COLUMN
from rsu_pipeline.adoption.rows import BIB, NO_BLANK, fills
from rsu_pipeline.adoption.shape import Column, Constraint, Shape, Table, ident, literal
from rsu_pipeline.adoption.steps import AdoptionRefusedError, Phase, Step, listing
from rsu_pipeline.display import counted

_VARCHAR = re.compile(r"character varying(?:\((\d+)\))?")
_NUMERIC = re.compile(r"numeric(?:\((\d+),(\d+)\))?")
_INTEGERS = ("smallint", "integer", "bigint")
_CASCADES = ("c", "n", "d")

# The key (timing_partner_id, race_id) to partner_races enforces what these did.
_COVERED = {("runsignup_participants", ("race_id",)), ("runsignup_participants", ("timing_partner_id",))}


def widening(table: str, theirs: Column, ours: Column) -> str | None:
    """Return the type that a column must be widened to, or None if it has room for all values.

    Raises:
        Refused: The column has another kind of type.
    """
    found, wanted = theirs.type, ours.type
    if found == wanted:
        return None
    if wanted in ("bigint", "integer") and found in _INTEGERS:
        return wanted if _INTEGERS.index(found) < _INTEGERS.index(wanted) else None
    text, limit = _VARCHAR.fullmatch(found), _VARCHAR.fullmatch(wanted)
    if wanted == "text" and text:
        return "text" if text[1] else None
    if limit and (text or found == "text"):
        return wanted if text and text[1] and int(text[1]) < int(limit[1] or 0) else None
    number, least = _NUMERIC.fullmatch(found), _NUMERIC.fullmatch(wanted)
    if number and least and _holds(number, least):
        return None
    raise AdoptionRefusedError(
        f"Column {table}.{theirs.name} is of type {found}, where {wanted} is expected: change the column, or rename it, and"
        " adopt again."
    )


def _holds(found: re.Match[str], wanted: re.Match[str]) -> bool:
    if found[1] is None:
        return True
    return wanted[1] is not None and (
        int(found[2]) >= int(wanted[2]) and int(found[1]) - int(found[2]) >= int(wanted[1]) - int(wanted[2])
    )


def widened(theirs: Table, ours: Table) -> dict[str, str]:
    """Return the columns that are widened, with their new types.

    Raises:
        Refused: A column has another kind of type.
    """
    types = {
        name: widening(ours.name, theirs.columns[name], column)
        for name, column in ours.columns.items()
        if name in theirs.columns
    }
    return {name: kind for name, kind in types.items() if kind is not None}


def idle_columns(theirs: Table, ours: Table) -> list[str]:
    """Return columns that require a value where this program may have none: unknown ones, and those it may leave NULL."""
    unknown = [
        name
        for name, column in theirs.columns.items()
        if name not in ours.columns and column.not_null and column.default is None and not column.made
    ]
    stricter = [
        name
        for name, column in ours.columns.items()
        if name in theirs.columns and theirs.columns[name].not_null and not column.not_null
    ]
    return unknown + stricter


def table_steps(
    found: Shape,
    wanted: Shape,
    name: str,
    zone: str,
    rows: int = 0,
    *,
    lagging: bool = False,
    blank_bibs: int = 0,
    keys_used: int = 0,
) -> list[Step]:
    """Return everything that a table lacks. A table that lacks nothing gets no step.

    Args:
        found: The shape of the database.
        wanted: The shape that the migrations make.
        name: The table.
        zone: The server's time zone.
        rows: How many rows stay in it.
        lagging: Whether the sequence of its numbers is behind the highest.
        blank_bibs: How many of its rows have a blank bib.
        keys_used: How many of its rows have an API key in credentials_used.
    """
    theirs, ours = found.tables[name], wanted.tables[name]
    return [
        *_foreign_keys_down(theirs, ours, wanted),
        *_columns(theirs, ours),
        *_rewrite(theirs, ours, zone, rows, blank_bibs, keys_used),
        *_keys(found, theirs, ours),
        *([_catch_up(theirs)] if lagging else []),
        *_indexes(found, theirs, ours),
        *_foreign_keys(theirs, ours, wanted),
        *_triggers(theirs, ours),
        *_comments(theirs, ours),
    ]


def _columns(theirs: Table, ours: Table) -> list[Step]:
    stand_ins = STAND_INS.get(ours.name, {})
    clauses, made, generated = [], [], []
    for name, column in ours.columns.items():
        if name in theirs.columns:
            continue
        stand_in = theirs.columns.get(stand_ins.get(name, ""))
        if stand_in is not None:
            generated.append(f"{name} (always equal to {stand_in.name})")
            clauses.append(
                f"ADD COLUMN {ident(name)} {stand_in.type} GENERATED ALWAYS AS ({ident(stand_in.name)}) STORED"
            )
            continue
        made.append(name)
        clauses.append(
            f"ADD COLUMN {ident(name)} {column.type}"
            + (f" DEFAULT {column.default}" if column.default is not None else "")
            + (" NOT NULL" if column.not_null else "")
        )
    idle = [name for name in idle_columns(theirs, ours) if name not in theirs.primary_key()]
    clauses += [f"ALTER COLUMN {ident(name)} DROP NOT NULL" for name in idle]
    if not clauses:
        return []
    sentences = []
    if made or generated:
        sentences.append(f"{counted(len(made + generated), 'column')} added beside: {listing(made + generated)}")
    if idle:
        sentences.append(f"{listing(idle)} may be NULL")
    return [_alter(ours.name, Phase.COLUMNS, "; ".join(sentences), clauses)]


def _rewrite(theirs: Table, ours: Table, zone: str, rows: int, blank_bibs: int, keys_used: int) -> list[Step]:
    """Return one statement for wider types and new columns' values, so that a table is rewritten at most once.

    A rewrite fires no trigger of the older program and leaves no dead rows, as an UPDATE of every row would.
    """
    wider = widened(theirs, ours)
    filled = {name: sql for name, sql in fills(theirs, zone).items() if name in ours.columns} if rows else {}
    # A blank would count as a bib, and the first sync would log that it was cleared.
    using = {BIB: f" USING {NO_BLANK}"} if blank_bibs else {}
    using |= {KEY_COLUMN: " USING NULL"} if keys_used else {}
    if not wider and not filled and not using:
        return []
    clauses = [f"ALTER COLUMN {ident(name)} TYPE {kind}{using.pop(name, '')}" for name, kind in wider.items()]
    clauses += [f"ALTER COLUMN {ident(name)} TYPE {theirs.columns[name].type}{sql}" for name, sql in using.items()]
    clauses += [
        f"ALTER COLUMN {ident(name)} TYPE {ours.columns[name].type} USING {sql}" for name, sql in filled.items()
    ]
    sentences = [
        f"widened to {kind}: {listing([name for name in wider if wider[name] == kind])}"
        for kind in sorted(set(wider.values()))
    ]
    sentences += [f"{listing(list(filled))} filled for its {counted(rows, 'row')}"] if filled else []
    sentences += [f"{BIB} NULL instead of blank in {counted(blank_bibs, 'row')}"] if blank_bibs else []
    sentences += (
        [f"{KEY_COLUMN} emptied in {counted(keys_used, 'row')}: it contained an API key in clear"] if keys_used else []
    )
    step = _alter(ours.name, Phase.FILLING, "; ".join(sentences), clauses)
    numbered = [theirs.columns[name].default or "" for name in wider]
    sequences = [_widen_sequence(default) for default in numbered if default.startswith("nextval(")]
    return [Step(step.subject, step.phase, step.sentence, (*step.sql, *sequences), rows if filled else None)]


def _widen_sequence(default: str) -> str:
    return f"DO $$ BEGIN EXECUTE format('ALTER SEQUENCE %s AS bigint', {sequence_of(default)}); END $$"


def _keys(found: Shape, theirs: Table, ours: Table) -> list[Step]:
    stand_ins = STAND_INS.get(ours.name, {})
    clauses, sentences, required, before = [], [], [], []
    for name, column in ours.columns.items():
        stored = theirs.columns.get(name) or theirs.columns.get(stand_ins.get(name, ""))
        if stored is not None and column.default is not None and stored.default is None and not stored.made:
            if column.default.startswith("nextval("):
                before += _sequence(found, ours.name, stored.name)
                sentences.append(f"{stored.name} numbered by a sequence")
            else:
                clauses.append(f"ALTER COLUMN {ident(stored.name)} SET DEFAULT {column.default}")
                sentences.append(f"{stored.name} defaults to {column.default}")
        if stored is not None and column.not_null and not (stored.not_null and stored.name == name):
            clauses.append(f"ALTER COLUMN {ident(name)} SET NOT NULL")
            required.append(name)
    sentences += [f"never NULL any more: {listing(required)}"] if required else []
    unique = {key.columns for key in theirs.constraints if key.kind in ("p", "u")}
    checks = {key.definition for key in theirs.constraints if key.kind == "c"}
    for key in ours.constraints:
        if (key.kind in ("p", "u") and key.columns in unique) or key.kind in ("f",) or key.definition in checks:
            continue
        definition, name = key.definition, key.name
        if key.kind == "p" and theirs.primary_key():
            definition = f"UNIQUE ({', '.join(ident(column) for column in key.columns)})"
            name = f"{ours.name}_{'_'.join(key.columns)}_key"
        clauses.append(f"ADD CONSTRAINT {ident(_free(name, found.relations))} {definition}")
        sentences.append(f"{listing(list(key.columns))} unique" if key.kind in ("p", "u") else definition)
    if not sentences:
        return []
    step = _alter(ours.name, Phase.KEYS, "; ".join(sentences), clauses)
    return [Step(step.subject, step.phase, step.sentence, (*before, *(step.sql if clauses else ())))]


def _sequence(found: Shape, table: str, column: str) -> list[str]:
    name = ident(_free(f"{table}_{column}_seq", found.relations))
    return [
        f"CREATE SEQUENCE {name} OWNED BY {ident(table)}.{ident(column)}",
        f"SELECT setval({literal(name)}, coalesce((SELECT max({ident(column)}) FROM {ident(table)}), 0) + 1, false)",
        f"ALTER TABLE {ident(table)} ALTER COLUMN {ident(column)} SET DEFAULT nextval({literal(name)})",
    ]


def _catch_up(theirs: Table) -> Step:
    """Set the sequence of a table's numbers past the highest, including rows that are about to move."""
    column = theirs.columns[theirs.primary_key()[0]]
    # Unlike setval, ALTER SEQUENCE is rolled back with the transaction.
    sql = (
        f"DO $$ BEGIN EXECUTE format('ALTER SEQUENCE %s RESTART WITH %s', {sequence_of(column.default or '')},"
        f" (SELECT max({ident(column.name)}) + 1 FROM {ident(theirs.name)})); END $$"
    )
    return Step(theirs.name, Phase.COLUMNS, f"the sequence of {column.name} set past its highest number", (sql,))


def _indexes(found: Shape, theirs: Table, ours: Table) -> list[Step]:
    sql, renamed, made = [], [], []
    taken = {index.name for index in theirs.indexes}
    by_definition = {index.definition: index.name for index in theirs.indexes}
    for index in ours.indexes:
        old = by_definition.get(index.definition)
        if old is not None and index.name not in taken | (found.relations - {old}):
            sql.append(f"ALTER INDEX {ident(old)} RENAME TO {ident(index.name)}")
            renamed.append(f"{old} to {index.name}")
        elif old is None:
            name = _free(index.name, found.relations)
            sql.append(index.definition.replace(" INDEX ON ", f" INDEX {ident(name)} ON ", 1))
            made.append(name)
    sentences = [f"indexes renamed: {listing(renamed)}"] if renamed else []
    sentences += [f"{counted(len(made), 'index', 'indexes')} made: {listing(made)}"] if made else []
    return [Step(ours.name, Phase.INDEXES, "; ".join(sentences), tuple(sql))] if sql else []


def _foreign_keys_down(theirs: Table, ours: Table, wanted: Shape) -> list[Step]:
    """Drop foreign keys that cascade and those that are replaced, before a row moves."""
    gone = [key for key in theirs.constraints if key.kind == "f" and _goes(key, ours, wanted)]
    if not gone:
        return []
    cascading = [key for key in gone if key.on_delete in _CASCADES]
    replaced = [key for key in gone if key not in cascading]
    sentences = [f"cascading foreign keys dropped: {listing([_named(key) for key in cascading])}"] * bool(cascading)
    sentences += [f"foreign keys recreated: {listing([_named(key) for key in replaced])}"] * bool(replaced)
    clauses = [f"DROP CONSTRAINT {ident(key.name)}" for key in gone]
    return [_alter(ours.name, Phase.KEYS_DOWN, "; ".join(sentences), clauses)]


def _goes(key: Constraint, ours: Table, wanted: Shape) -> bool:
    if any(key.definition == own.definition for own in ours.constraints):
        return False
    replaced = any(
        own.kind == "f" and own.columns == key.columns and own.target == key.target for own in ours.constraints
    )
    return replaced or (key.on_delete in _CASCADES and key.target in wanted.tables)


def _named(key: Constraint) -> str:
    return f"{', '.join(key.columns)} to {key.target}"


def _foreign_keys(theirs: Table, ours: Table, wanted: Shape) -> list[Step]:
    there = {key.definition for key in theirs.constraints if not _goes(key, ours, wanted)}
    names = {key.name for key in theirs.constraints if not _goes(key, ours, wanted)}
    new = [
        (key.name, key.definition, _named(key))
        for key in ours.constraints
        if key.kind == "f" and key.definition not in there
    ]
    for key in theirs.constraints:
        replaced = any(own.columns == key.columns and own.target == key.target for own in ours.constraints)
        if key.kind == "f" and _goes(key, ours, wanted) and not replaced and (ours.name, key.columns) not in _COVERED:
            plain = re.sub(r" ON (?:DELETE|UPDATE) (?:CASCADE|RESTRICT|SET NULL|SET DEFAULT)", "", key.definition)
            new.append((key.name, plain.removesuffix(" NOT VALID"), _named(key)))
    if not new:
        return []
    clauses = [f"ADD CONSTRAINT {ident(_free(name, names))} {definition}" for name, definition, _ in new]
    sentence = f"foreign keys that refuse a delete: {listing([text for _, _, text in new])}"
    return [_alter(ours.name, Phase.FOREIGN_KEYS, sentence, clauses)]


def _triggers(theirs: Table, ours: Table) -> list[Step]:
    there = {trigger.name: trigger.definition for trigger in theirs.triggers}
    sql, names = [], []
    for trigger in ours.triggers:
        if there.get(trigger.name) != trigger.definition:
            names.append(trigger.name)
            if trigger.name in there:
                sql.append(f"DROP TRIGGER {ident(trigger.name)} ON {ident(ours.name)}")
            sql.append(trigger.definition)
    return [Step(ours.name, Phase.TRIGGERS, f"triggers: {listing(names)}", tuple(sql))] if sql else []


def _comments(theirs: Table, ours: Table) -> list[Step]:
    sql, replaced = [], []
    if ours.comment is not None and theirs.comment != ours.comment:
        sql.append(f"COMMENT ON TABLE {ident(ours.name)} IS {literal(ours.comment)}")
        replaced += ["the table"] if theirs.comment else []
    for name, column in ours.columns.items():
        there = theirs.columns.get(name)
        if column.comment is not None and (there is None or there.comment != column.comment):
            sql.append(f"COMMENT ON COLUMN {ident(ours.name)}.{ident(name)} IS {literal(column.comment)}")
            replaced += [name] if there and there.comment else []
    sentence = f"comments replaced: {listing(replaced)}" if replaced else ""
    return [Step(ours.name, Phase.TRIGGERS, sentence, tuple(sql))] if sql else []


def _alter(table: str, phase: Phase, sentence: str, clauses: list[str]) -> Step:
    return Step(table, phase, sentence, (f"ALTER TABLE {ident(table)} " + ", ".join(clauses),))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_rsu"
    return name
