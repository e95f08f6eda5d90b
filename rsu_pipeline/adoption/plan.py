"""Plan an adoption without a database: from the found shape, the wanted shape and the counts to the steps."""

from collections import Counter

from rsu_pipeline.adoption import rows
from rsu_pipeline.adoption.facts import ADOPTED, STAND_INS, Facts, sequence_of
from rsu_pipeline.adoption.keys import KEY_COLUMN, key_steps
from rsu_pipeline.adoption.readers import reader_steps
from rsu_pipeline.adoption.refusals import refuse_dependents, refuse_rows, refuse_shape
from rsu_pipeline.adoption.shape import Shape, ident
from rsu_pipeline.adoption.steps import AdoptionRefusedError, Phase, Step, listing
from rsu_pipeline.adoption.tables import table_steps
from rsu_pipeline.adoption.undo import RECORD, record_statements
from rsu_pipeline.adoption.views import view_steps
from rsu_pipeline.display import counted

__all__ = ["AdoptionRefusedError", "Step", "find_lacking", "plan_adoption"]


def plan_adoption(found: Shape, wanted: Shape, facts: Facts, zone: str) -> list[Step]:
    """Return what is to be done, in order.

    Args:
        found: The shape of the database.
        wanted: The shape that the migrations make.
        facts: The counts of its rows.
        zone: The server's time zone, in which the older program wrote its own times.

    Raises:
        Refused: The database has something that adoption does not know.
    """
    refuse_shape(found, wanted)
    refuse_dependents(found, wanted, facts)
    refuse_rows(found, facts)
    steps: list[Step] = []
    for name in ADOPTED:
        if name in found.tables:
            staying = facts.rows[name] - facts.moving.get(name, Counter()).total()
            steps += table_steps(
                found,
                wanted,
                name,
                zone,
                staying,
                lagging=name in facts.lagging,
                blank_bibs=facts.blank_bibs if name == "runsignup_participants" else 0,
                keys_used=facts.keys_used.get(name, 0),
            )
    steps += key_steps(found, facts.keys_elsewhere, facts.not_searched, facts.other_credentials)
    steps += _moving(found, facts)
    steps += reader_steps(found, wanted, facts.copies)
    steps += _instants(found, facts)
    steps += _new_tables(found, wanted)
    steps += _new_rows(found, facts)
    steps += view_steps(found, wanted)
    names = ", ".join(sorted(name for name in ADOPTED if name in found.tables))
    steps.append(Step(RECORD, Phase.VIEWS_DOWN, "made, to go back by", record_statements(found)))
    steps.append(Step("statistics", Phase.LAST, "gathered anew", (f"ANALYZE {names}, partner_races",)))
    return sorted(steps, key=lambda step: step.phase)


def find_lacking(found: Shape, wanted: Shape) -> list[Step]:
    """Return what a schema lacks of the wanted one. The list is empty after an adoption."""
    missing = [Step(name, Phase.NEW_TABLES, "made", ()) for name in wanted.tables if name not in found.tables]
    missing += [Step("", Phase.NEW_TABLES, name, ()) for name in wanted.functions if name not in found.functions]
    there = [name for name in wanted.tables if name in found.tables]
    return [
        *missing,
        *(step for name in there for step in table_steps(found, wanted, name, "UTC")),
        *view_steps(found, wanted),
    ]


def _moving(found: Shape, facts: Facts) -> list[Step]:
    steps = [Step(rows.MOVED, Phase.MOVING, "made, for rows that cannot stay", (rows.CREATE_MOVED,))]
    for table, judgement in rows.build_judgements(found).items():
        if moving := facts.moving.get(table):
            reasons = "; ".join(f"{number:,}: {reason}" for reason, number in moving.items())
            sentence = f"{counted(moving.total(), 'row')} moved to {rows.MOVED} ({reasons})"
            emptied = KEY_COLUMN if table in facts.keys_used else None
            steps.append(Step(table, Phase.MOVING, sentence, (rows.move(table, judgement, emptied),), moving.total()))
    return steps


def _instants(found: Shape, facts: Facts) -> list[Step]:
    if "starts_at" in found.tables["runsignup_events"].columns or not facts.rows["runsignup_events"]:
        return []
    sentence = "starts_at and ends_at filled from the wall times and the races' zones"
    if facts.without_zone:
        sentence += f", except for {counted(facts.without_zone, 'event')} whose race names no known zone"
    return [Step("runsignup_events", Phase.FILLING, sentence, (rows.ZONED,), facts.rows["runsignup_events"])]


def _new_tables(found: Shape, wanted: Shape) -> list[Step]:
    """Return steps that move new tables and functions out of the schema that the migrations made.

    Their foreign keys to tables that already exist are recreated.
    """
    schema, here = ident(wanted.schema), ident(found.schema)
    new = [table for name, table in wanted.tables.items() if name not in found.tables]
    moves, keys = [], []
    for table in new:
        outward = [key for key in table.constraints if key.kind == "f" and key.target in found.tables]
        moves += [f"ALTER TABLE {schema}.{ident(table.name)} DROP CONSTRAINT {ident(key.name)}" for key in outward]
        moves.append(f"ALTER TABLE {schema}.{ident(table.name)} SET SCHEMA {here}")
        keys += [
            f"ALTER TABLE {ident(table.name)} ADD CONSTRAINT {ident(key.name)} {key.definition}" for key in outward
        ]
    moves += [f"ALTER FUNCTION {schema}.{signature} SET SCHEMA {here}" for signature in wanted.functions]
    names = sorted(table.name for table in new)
    return [
        Step("new tables", Phase.NEW_TABLES, listing(names), tuple(moves)),
        Step("new tables", Phase.FOREIGN_KEYS, "", tuple(keys)),
    ]


def _restart(sequence: str) -> str:
    return (
        f"DO $$ BEGIN EXECUTE format('ALTER SEQUENCE %s RESTART WITH %s', {sequence},"
        f" coalesce(pg_sequence_last_value({sequence}), 0) + 1); END $$"
    )


def _new_rows(found: Shape, facts: Facts) -> list[Step]:
    steps = []
    if "providers" in found.tables and not facts.providers:
        name = "name" if "name" in found.tables["providers"].columns else STAND_INS["providers"]["name"]
        insert = (
            f"INSERT INTO providers ({name}, provider_type, api_base_url)"
            " VALUES ('RunSignup', 'registration', 'https://api.runsignup.com/rest')"
        )
        # A restarted sequence is rolled back with the transaction. nextval alone is not.
        key = found.tables["providers"].primary_key()
        default = found.tables["providers"].columns[key[0]].default or "" if len(key) == 1 else ""
        restart = [_restart(sequence_of(default))] if default.startswith("nextval(") else []
        steps.append(Step("providers", Phase.ROWS, "a row for RunSignup added", (*restart, insert), 1))
    fill = f"INSERT INTO partner_races (timing_partner_id, race_id) {rows.links(found)}"
    sentence = f"{counted(facts.links, 'row')}: who sees which race, from owners and registrations"
    steps.append(Step("partner_races", Phase.ROWS, sentence, (fill,), facts.links))
    return steps
