"""What adoption does not dare: each a sentence that names the table and the column."""

from rsu_pipeline.warehouse.adoption.facts import ADOPTED, NEEDED, STAND_INS, Facts, column_of
from rsu_pipeline.warehouse.adoption.shape import Shape, Table
from rsu_pipeline.warehouse.adoption.steps import Refused, counted
from rsu_pipeline.warehouse.adoption.tables import idle_columns, widened
from rsu_pipeline.warehouse.adoption.views import TELLTALE, refuse_unknown_columns

SYNCED = ("runsignup_races", "runsignup_events", "runsignup_participants", "sync_history")
"""Tables that a sync writes."""
OTHER_KEYS: dict[str, list[set[str]]] = {name: [] for name in SYNCED}
"""Uniqueness of ours that an index keeps."""
OTHER_KEYS["runsignup_participants"].append({"timing_partner_id", "registration_id"})


def refuse_shape(found: Shape, wanted: Shape) -> None:
    """Raises Refused when the schema has what is not understood."""
    for name in NEEDED:
        if name not in found.relations:
            raise Refused(f"There is no table {name} in schema {found.schema}, so there is nothing to adopt in it.")
    for name in wanted.tables:
        _refuse_table(found, wanted, name)
    for name, ours in wanted.views.items():
        if name in found.views:
            refuse_unknown_columns(found.views[name], ours)
        elif name in found.relations:
            raise Refused(f"{name} is not a plain view, as is expected: rename it, and adopt again.")
    changing = {(name, column) for name in _adopted(found) for column in _changing(found, wanted, name)}
    for reader, relation, column in found.readers:
        if reader not in TELLTALE and ((relation, column) in changing or relation in TELLTALE):
            place = f"column {relation}.{column}" if column else f"view {relation}"
            raise Refused(
                f"View {reader} reads {place}, which adoption changes: drop the view, adopt, and make the view again."
            )


def _adopted(found: Shape) -> list[str]:
    return [name for name in ADOPTED if name in found.tables]


def _changing(found: Shape, wanted: Shape, name: str) -> set[str]:
    return set(widened(found.tables[name], wanted.tables[name]))


def _refuse_table(found: Shape, wanted: Shape, name: str) -> None:
    if name not in found.relations:
        return
    if name not in ADOPTED:
        raise Refused(f"There is a table {name} that the older program did not make: rename it, and adopt again.")
    if name not in found.tables or found.tables[name].kind != "r":
        raise Refused(f"{name} is not a plain table, as is expected: rename it, and adopt again.")
    theirs, ours = found.tables[name], wanted.tables[name]
    for key in ADOPTED[name]:
        if column_of(found, name, key) is None:
            raise Refused(f"Table {name} has no column {key}, without which it is not the table this program knows.")
    widened(theirs, ours)
    if name in SYNCED:
        _refuse_rules(theirs, ours)
    stand_ins = STAND_INS.get(name, {}).values()
    for column in idle_columns(theirs, ours):
        if column in theirs.primary_key() and column not in stand_ins:
            raise Refused(
                f"Column {name}.{column} is part of the primary key and has no default, so that this program could insert"
                " no row: give it a default, and adopt again."
            )


def _refuse_rules(theirs: Table, ours: Table) -> None:
    """A rule of the older program that rows of this one may break: a check, or a uniqueness that ours does not have."""
    stand_ins = STAND_INS.get(ours.name, {})
    keys = [set(key.columns) for key in ours.constraints if key.kind in ("p", "u")]
    unique = [*keys, *({name} for name in stand_ins.values()), *OTHER_KEYS[ours.name]]
    rules = [
        (key.name, key.definition)
        for key in theirs.constraints
        if (key.kind in ("c", "x") and all(key.definition != own.definition for own in ours.constraints))
        or (key.kind in ("p", "u") and not any(own & set(key.columns) == own for own in unique))
    ]
    known = {index.definition for index in ours.indexes}
    rules += [
        (index.name, index.definition)
        for index in theirs.indexes
        if index.definition.startswith("CREATE UNIQUE ") and index.definition not in known
    ]
    if rules:
        raise Refused(
            f"Table {ours.name} has the rule {rules[0][0]} ({rules[0][1]}), which rows of this program may break: drop it, and"
            " adopt again."
        )


def refuse_rows(found: Shape, facts: Facts) -> None:
    """Raises Refused when there are rows that can neither stay nor be moved."""
    for (table, column), number in facts.nulls.items():
        if number and not _moves_nulls(table, column):
            raise Refused(
                f"Column {table}.{column} is NULL in {counted(number, 'row')}, and must not be: fill or delete them, and"
                " adopt again."
            )
    for (table, columns), number in facts.repeated.items():
        if number:
            names = (
                f"Column {table}.{columns[0]}" if len(columns) == 1 else f"Table {table}, in ({', '.join(columns)}),"
            )
            raise Refused(
                f"{names} has {counted(number, 'value')} more than once (upper and lower case counting as one among names):"
                " leave one row of each, and adopt again."
            )
    for table, number in facts.lost.items():
        if number:
            # Moved, their secrets would lie in a table in clear.
            raise Refused(
                f"Table {table} has {counted(number, 'row')} whose timing_partner_id or provider_id names nobody: correct"
                " or delete them, and adopt again."
            )
    for table, target, action in found.referrers:
        if table not in ADOPTED and target in facts.moving and action in ("c", "n", "d"):
            raise Refused(
                f"Table {table} has a foreign key to {target} that cascades, and rows of {target} are to be moved: make it a"
                " plain one, and adopt again."
            )


def _moves_nulls(table: str, column: str) -> bool:
    return table in ("runsignup_participants", "runsignup_events", "runsignup_races") and column != "id"
