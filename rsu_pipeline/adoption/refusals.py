"""Refuse what adoption cannot do safely, each with a sentence that names the table and the column."""

from rsu_pipeline.adoption.facts import ADOPTED, NEEDED, STAND_INS, Facts, column_of
from rsu_pipeline.adoption.keys import KEY_COLUMN
from rsu_pipeline.adoption.rows import BIB
from rsu_pipeline.adoption.shape import Shape, Table, ident
from rsu_pipeline.adoption.steps import AdoptionRefusedError
from rsu_pipeline.adoption.tables import idle_columns, widened
from rsu_pipeline.adoption.views import TELLTALE, refuse_unknown_columns
from rsu_pipeline.display import counted

SYNCED = ("runsignup_races", "runsignup_events", "runsignup_participants", "sync_history")
"""Tables that a sync writes."""
OTHER_KEYS: dict[str, list[set[str]]] = {name: [] for name in SYNCED}
"""Unique keys of this program that an index enforces."""
OTHER_KEYS["runsignup_participants"].append({"timing_partner_id", "registration_id"})


def refuse_shape(found: Shape, wanted: Shape) -> None:
    """Raise Refused when the schema has something that adoption does not know."""
    for name in NEEDED:
        if name not in found.relations:
            raise AdoptionRefusedError(
                f"There is no table {name} in schema {found.schema}, so there is nothing to adopt in it."
            )
    for name in wanted.tables:
        _refuse_table(found, wanted, name)
    for name, ours in wanted.views.items():
        if name in found.views:
            refuse_unknown_columns(found.views[name], ours)
        elif name in found.relations:
            raise AdoptionRefusedError(f"{name} is not a plain view, as is expected: rename it, and adopt again.")
    _refuse_heirs(found)


def refuse_dependents(found: Shape, wanted: Shape, facts: Facts) -> None:
    """Raise Refused when something depends on what changes, because PostgreSQL would refuse the change."""
    changing = {(name, column) for name in adopted_tables(found) for column in _changing(found, wanted, name, facts)}
    for reader, relation, column in found.readers:
        if reader not in TELLTALE and ((relation, column) in changing or relation in TELLTALE):
            place = f"column {relation}.{column}" if column else f"view {relation}"
            raise AdoptionRefusedError(
                f"View {reader} reads {place}, which adoption changes: drop the view, adopt, and make the view again."
            )
    rewritten = {name for name, _ in changing}
    for item in found.dependents:
        is_rule = item.catalog == "pg_rewrite" and item.relation in ADOPTED
        is_held = item.relation in rewritten if item.catalog == "row type" else (item.relation, item.column) in changing
        if item.relation in TELLTALE or is_rule or is_held:
            place = f"{item.relation}.{item.column}" if item.column else item.relation
            raise AdoptionRefusedError(
                f"{item.what[:1].upper()}{item.what[1:]} depends on {place}, which adoption changes: drop it, adopt, and"
                " make it again."
                if not is_rule
                else f"{item.what[:1].upper()}{item.what[1:]} would change what this program writes: drop it, and adopt again."
            )


def adopted_tables(found: Shape) -> list[str]:
    """Return the tables of the older program that exist."""
    return [name for name in ADOPTED if name in found.tables]


def _changing(found: Shape, wanted: Shape, name: str, facts: Facts) -> set[str]:
    changing = set(widened(found.tables[name], wanted.tables[name]))
    changing |= {KEY_COLUMN} if facts.keys_used.get(name) else set()
    return changing | ({BIB} if facts.blank_bibs and name == "runsignup_participants" else set())


def _refuse_heirs(found: Shape) -> None:
    """Raise Refused for a table that inherits: a child's row is read as the parent's, and no unique key spans both."""
    for child, parent in found.heirs:
        if child in ADOPTED or parent in ADOPTED:
            raise AdoptionRefusedError(
                f"Table {child} inherits from {parent}, so that no key can hold for both: run ALTER TABLE {child} NO INHERIT"
                f" {parent}, which keeps its columns and rows, and adopt again."
            )


def refuse_rights(found: Shape) -> None:
    """Raise Refused when the session's role lacks a right that adoption needs."""
    for place, is_granted in found.rights.items():
        if not is_granted:
            raise AdoptionRefusedError(
                f"Role {found.user} may not create in {place.lower().split()[0]} {place.split(' ', 1)[1]}: run GRANT CREATE ON"
                f" {place} TO {ident(found.user)} as its owner, and adopt again."
            )
    relations = [*adopted_tables(found), *(name for name in TELLTALE if name in found.views)]
    for name in relations:
        relation = found.tables.get(name) or found.views[name]
        if not relation.is_owned:
            raise AdoptionRefusedError(
                f"{name} belongs to role {relation.owner}, which {found.user} is not a member of: adopt as {relation.owner}, or"
                f" run GRANT {ident(relation.owner)} TO {ident(found.user)}, and adopt again."
            )


def _refuse_table(found: Shape, wanted: Shape, name: str) -> None:
    if name not in found.relations:
        return
    if name not in ADOPTED:
        raise AdoptionRefusedError(
            f"There is a table {name} that the older program did not make: rename it, and adopt again."
        )
    if name not in found.tables or found.tables[name].kind != "r":
        raise AdoptionRefusedError(f"{name} is not a plain table, as is expected: rename it, and adopt again.")
    theirs, ours = found.tables[name], wanted.tables[name]
    if theirs.has_row_security:
        raise AdoptionRefusedError(
            f"Table {name} has row-level security, so that this program might not see every row: run ALTER TABLE {name}"
            " DISABLE ROW LEVEL SECURITY, and adopt again."
        )
    for column in ours.columns:
        if column in theirs.columns and theirs.columns[column].made == "generated":
            raise AdoptionRefusedError(
                f"Column {name}.{column} is generated, so that this program could not write it: run ALTER TABLE {name} ALTER"
                f" {column} DROP EXPRESSION, and adopt again."
            )
    for key in ADOPTED[name]:
        if column_of(found, name, key) is None:
            raise AdoptionRefusedError(
                f"Table {name} has no column {key}, without which it is not the table this program knows."
            )
    widened(theirs, ours)
    if name in SYNCED:
        _refuse_rules(theirs, ours)
    stand_ins = STAND_INS.get(name, {}).values()
    for column in idle_columns(theirs, ours):
        if column in theirs.primary_key() and column not in stand_ins:
            raise AdoptionRefusedError(
                f"Column {name}.{column} is part of the primary key and has no default, so that this program could insert"
                " no row: give it a default, and adopt again."
            )


def _refuse_rules(theirs: Table, ours: Table) -> None:
    """Raise Refused for a rule of the older program that this program's rows may violate.

    Such a rule is a check, or a uniqueness that this program does not have.
    """
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
        raise AdoptionRefusedError(
            f"Table {ours.name} has the rule {rules[0][0]} ({rules[0][1]}), which rows of this program may break: drop it, and"
            " adopt again."
        )


def refuse_rows(found: Shape, facts: Facts) -> None:
    """Raise Refused when there are rows that can neither stay nor be moved."""
    for (table, column), number in facts.nulls.items():
        if number and not _moves_nulls(table, column):
            raise AdoptionRefusedError(
                f"Column {table}.{column} is NULL in {counted(number, 'row')}, and must not be: fill or delete them, and"
                " adopt again."
            )
    for (table, columns), number in facts.repeated.items():
        if number:
            names = (
                f"Column {table}.{columns[0]}" if len(columns) == 1 else f"Table {table}, in ({', '.join(columns)}),"
            )
            raise AdoptionRefusedError(
                f"{names} has {counted(number, 'value')} more than once (upper and lower case counting as one among names):"
                " leave one row of each, and adopt again."
            )
    for table, number in facts.lost.items():
        if number:
            # If such rows were moved, their secrets would be in another table in clear.
            raise AdoptionRefusedError(
                f"Table {table} has {counted(number, 'row')} whose timing_partner_id or provider_id names nobody: correct"
                " or delete them, and adopt again."
            )
    for reference in facts.references:
        raise AdoptionRefusedError(
            f"Table {reference.table} has {counted(reference.rows, 'row')} whose {', '.join(reference.columns)} names a row of"
            f" {reference.target} that is to be moved ({reference.sample}): let them name another row or none, and adopt"
            " again."
        )


def _moves_nulls(table: str, column: str) -> bool:
    return table in ("runsignup_participants", "runsignup_events", "runsignup_races") and column != "id"
