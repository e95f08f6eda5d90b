"""The generated parts of docs/data-model.md: diagrams and tables of columns, from a migrated PostgreSQL's catalogue.

`make docs` (or `python -m tools.schema_docs`) draws them. A test fails where the file differs. What cannot
be read from a catalogue is here: what belongs together, who may read it, and the joins that are no foreign key.
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from psycopg2.extensions import connection as Connection

from rsu_pipeline.local import embedded
from rsu_pipeline.warehouse import database, roles
from rsu_pipeline.warehouse.privacy_classes import TABLES
from rsu_pipeline.warehouse.registration_columns import REGISTRATION, Privacy
from tools.schema_catalogue import Column, Reference, Schema, Table, read_tables

FILE = Path(__file__).resolve().parents[1] / "docs" / "data-model.md"
COMMAND = "make docs"

GROUPS: dict[str, tuple[str, ...]] = {
    "partners": ("timing_partners", "providers", "partner_provider_credentials", "runsignup_api_keys"),
    "races": ("runsignup_races", "partner_races", "race_owners", "runsignup_events", "unified_events"),
    "registrations": (
        *("runsignup_participants", "unified_participants", "quarantined_rows"),
        *("participant_answers", "participant_addons", "participant_memberships"),
    ),
    "bibs": ("runsignup_bib_changes", "bib_changes_handled", "bib_pushes", "bib_push_events"),
    "start lists": ("start_lists", "start_list_entries", "start_list", "start_list_folders"),
    "sync": (
        *("future_events", "event_cursors", "read_passes", "pass_registrations", "pass_counts"),
        *("sync_history", "api_calls", "hub_clocks"),
    ),
    "past editions": ("history_requests", "history_races", "history_events"),
    "webhooks": ("webhooks", "webhook_messages", "webhook_worker"),
    "alerts": ("alerts", "failing_notifiers", "foreign_writes", "schema_drift", "accepted_schema_drift"),
    "readers": (
        *("reader_partners", "reader_races", "reader_events", "reader_participants"),
        *("entrants", "partner_entrants"),
    ),
    "privacy": ("privacy_log", "contact_retention", "erased_users", "erased_registrations"),
    "schema": ("schema_migrations",),
}
"""Tables and views by drawn part, in the order they are shown in. What is in none is drawn as `further`."""

FOR_OTHERS = (
    *("timing_partners", "providers", "runsignup_races", "partner_races", "runsignup_events", "runsignup_participants"),
    *("runsignup_bib_changes", "start_lists", "start_list_entries", "start_list"),
    *("unified_events", "unified_participants", "race_owners", "sync_history", "history_events", "alerts"),
    *("future_events", "event_cursors", "participant_answers", "participant_addons", "participant_memberships"),
    *("reader_partners", "reader_races", "reader_events", "reader_participants"),
    *("entrants", "partner_entrants"),
)
"""What other programs may read: names and meaning of its columns stay."""

FUNCTIONS_FOR_OTHERS = {
    "rsu_bib(bib_num, team_info)": "the bib that counts of a registration: its own, else that of its team",
}
"""Functions that other programs may call, with what they return."""

WRITTEN_BY_OTHERS = {
    "timing_partners": "a new partner, `access_password`",
    "partner_provider_credentials": "the credential of a new partner",
    "runsignup_participants": "`local_bib`",
}
"""What other programs may write, by table."""

CORE = (
    *("timing_partners", "partner_races", "runsignup_races", "runsignup_events", "runsignup_participants"),
    *("runsignup_bib_changes", "start_lists", "start_list_entries", "start_list"),
    *("unified_events", "unified_participants"),
)
"""What the first diagram shows, without columns."""

JOINS = (
    ("runsignup_bib_changes", ("timing_partner_id", "registration_id"), "runsignup_participants"),
    ("bib_changes_handled", ("bib_change_id",), "runsignup_bib_changes"),
    ("bib_pushes", ("timing_partner_id", "registration_id"), "runsignup_participants"),
    ("bib_pushes", ("bib_change_id",), "runsignup_bib_changes"),
    ("bib_push_events", ("event_id",), "runsignup_events"),
    ("start_list_entries", ("timing_partner_id", "registration_id"), "runsignup_participants"),
    ("runsignup_participants", ("event_id",), "runsignup_events"),
    ("runsignup_participants", ("timing_partner_id", "new_registration_id"), "runsignup_participants"),
    ("quarantined_rows", ("timing_partner_id", "registration_id"), "runsignup_participants"),
    ("read_passes", ("timing_partner_id", "race_id"), "partner_races"),
    ("sync_history", ("timing_partner_id", "race_id"), "partner_races"),
    ("api_calls", ("credential_id",), "partner_provider_credentials"),
    ("api_calls", ("api_key_id",), "runsignup_api_keys"),
    ("alerts", ("partner",), "timing_partners"),
)
"""Table, columns and the table they point into, where there is no foreign key."""

VIEW_COLUMNS = {
    ("unified_participants", "source_provider"): "runsignup.",
    ("unified_participants", "event_id"): "RunSignup's number of the event, as text.",
    ("unified_participants", "bib_number"): "Bib at RunSignup, else the one given here; NULL for none.",
    ("unified_participants", "city"): "Town.",
    ("unified_participants", "state"): "State.",
    ("unified_events", "source_provider"): "runsignup.",
    ("unified_events", "event_id"): "RunSignup's number of the event, as text.",
    ("unified_events", "event_name"): "Name of the event.",
    ("unified_events", "event_date"): "Start, wall time in the race's zone.",
    ("reader_participants", "city"): "Town.",
    ("reader_participants", "state"): "State.",
    ("reader_participants", "country_code"): "Country, two letters.",
    ("reader_participants", "team"): "Name of the team; NULL for none.",
    ("reader_participants", "bib"): "Bib at RunSignup, else the one given here; NULL for none.",
    ("start_list", "race"): "Name of the race.",
    ("start_list", "event"): "Name of the event.",
    ("start_list", "start"): "Start of the event, wall time in the race's zone.",
    ("start_list", "name"): "First and last name.",
    ("participant_answers", "position"): "Place among the registration's answers, from 1.",
    ("participant_answers", "question_id"): "RunSignup's number of the question.",
    ("participant_answers", "question"): "Text of the question.",
    ("participant_answers", "answer"): "The answer as text; NULL for a question that was not answered.",
    ("participant_addons", "position"): "Place among the registration's add-ons, from 1.",
    ("participant_addons", "addon_id"): "RunSignup's number of the add-on.",
    ("participant_addons", "addon"): "Name of the add-on.",
    ("participant_addons", "quantity"): "How many were bought.",
    ("participant_addons", "amount"): "Amount, dollars.",
    ("participant_memberships", "position"): "Place among the registration's memberships, from 1.",
    ("participant_memberships", "membership_id"): "RunSignup's number of the membership.",
    ("participant_memberships", "membership"): "Name of the membership.",
    ("participant_memberships", "member_number"): "The entrant's number as a member.",
    ("participant_memberships", "expires_on"): "Last day of the membership.",
    ("participant_memberships", "price_adjustment"): "What the membership changed of the price, dollars.",
    ("start_list", "problems"): "What is wrong, between commas; empty when all is well.",
}
"""Columns of views that carry no comment and mean another thing than the column of that name below."""


def read(conn: Connection) -> Schema:
    """Return every table and view that the migrations made, by name.

    Raises ValueError if what is declared here does not fit.
    """
    schema = read_tables(conn)
    for source, columns, target in JOINS:
        if source not in schema or target not in schema:
            raise ValueError(f"JOINS names {source} and {target}, and one of them is not in the database.")
        missing = set(columns) - {column.name for column in schema[source].columns}
        if missing:
            raise ValueError(f"JOINS names columns that {source} does not have: {', '.join(sorted(missing))}.")
        schema[source].references.append(Reference(columns, target, declared=False))
    named = {*CORE, *FOR_OTHERS, *(name for names in GROUPS.values() for name in names)}
    if gone := named - schema.keys():
        raise ValueError(f"Named here and not in the database: {', '.join(sorted(gone))}.")
    _explain_views(schema)
    return schema


def _explain_views(schema: Schema) -> None:
    """Fill a view's column without a comment from VIEW_COLUMNS, or else from the column of its name below."""
    used = set()
    for view in (table for table in schema.values() if table.is_view):
        names = {column.name for column in view.columns}
        below: dict[str, str] = {}
        # Of two tables with a column of the name, the one that has more of the view's.
        for table in sorted(view.reads, key=lambda name: len(names & {c.name for c in schema[name].columns})):
            below |= {column.name: column.meaning for column in schema[table].columns}
        for place, column in enumerate(view.columns):
            if column.meaning:
                continue
            if (view.name, column.name) in VIEW_COLUMNS:
                used.add((view.name, column.name))
            meaning = VIEW_COLUMNS.get((view.name, column.name)) or below.get(column.name, "")
            view.columns[place] = Column(column.name, column.type, column.not_null, meaning)
    if idle := VIEW_COLUMNS.keys() - used:
        raise ValueError(f"VIEW_COLUMNS explains what is gone or explained in the database: {sorted(idle)}.")


def parts(schema: Schema) -> dict[str, str]:
    """Return the drawn parts by the name in their markers."""
    grouped = {name for names in GROUPS.values() for name in names}
    further = [name for name in schema if name not in grouped]
    drawn = {"overview": _overview(schema)}
    for title, names in GROUPS.items():
        drawn[title] = _part(schema, names)
    drawn["further"] = _part(schema, further) if further else "None."
    return drawn


def _part(schema: Schema, names: Sequence[str]) -> str:
    return "\n\n".join([_diagram(schema, names), *(_columns(schema[name]) for name in names)])


def _overview(schema: Schema) -> str:
    """Return the core without columns.

    The line to the partner is left out where another line leads by way of the partner.
    """
    lines = [f"    {_entity(name)}" for name in CORE]
    for name in CORE:
        within = [one for one in schema[name].references if one.table in CORE and one.table != name]
        has_way = any("timing_partner_id" in one.columns and one.table != "timing_partners" for one in within)
        lines += [
            f"    {_line(schema[name], one)}" for one in within if not (has_way and one.table == "timing_partners")
        ]
        lines += [_view_line(below, name) for below in schema[name].reads if below in CORE]
    return _mermaid(lines)


def _diagram(schema: Schema, names: Sequence[str]) -> str:
    """Return tables with their keys, and what they point to."""
    lines = [line for name in names for line in _box(schema[name])]
    for name in names:
        lines += [f"    {_line(schema[name], reference)}" for reference in schema[name].references]
        lines += [_view_line(below, name) for below in schema[name].reads]
    return _mermaid(lines)


def _view_line(below: str, view: str) -> str:
    return f'    {_entity(below)} ||..o{{ {_entity(view)} : "view"'


def _mermaid(lines: Sequence[str]) -> str:
    return "\n".join(["```mermaid", "erDiagram", *lines, "```"])


def _entity(name: str) -> str:
    """Return a table's name as mermaid takes it: a dot would end it."""
    return name.replace(".", "_")


def _box(table: Table) -> list[str]:
    """Return an entity with its key columns, or a view, which has none, by its name."""
    primary = set(table.keys[0]) if table.keys else set()
    pointing = {name for reference in table.references for name in reference.columns}
    unique = {name for key in table.keys[1:] for name in key}
    lines = []
    for column in table.columns:
        marks = [mark for mark, names in (("PK", primary), ("FK", pointing), ("UK", unique)) if column.name in names]
        if marks:
            lines.append(f"        {re.sub(r'[^A-Za-z0-9_]', '_', column.type)} {column.name} {', '.join(marks)}")
    return [f"    {_entity(table.name)} {{", *lines, "    }"] if lines else [f"    {_entity(table.name)}"]


def _line(table: Table, reference: Reference) -> str:
    """Return a line from the table pointed into to this one.

    It leads from one row, or none where a column may be NULL, to any number here, or to at most one where the columns are a
    key.

    Dotted where there is no foreign key.
    """
    optional = any(not column.not_null for column in table.columns if column.name in reference.columns)
    single = any(set(key) <= set(reference.columns) for key in table.keys)
    stroke = "--" if reference.declared else ".."
    ends = f"{'|o' if optional or not reference.declared else '||'}{stroke}{'o|' if single else 'o{'}"
    return f'{_entity(reference.table)} {ends} {_entity(table.name)} : "{", ".join(reference.columns)}"'


def _columns(table: Table) -> str:
    """Return a table in words, and its columns."""
    for_others = "For this program only."
    if table.name in FOR_OTHERS:
        with_role = ", with the role `reader` too" if table.name in roles.FOR_READERS else ""
        for_others = f"Other programs may read it{with_role}."
    facts = [table.comment or "No comment in the database.", for_others]
    if table.is_view:
        facts.append(f"A view of {_listed(table.reads)}.")
    for place, key in enumerate(table.keys):
        facts.append(f"{'Unique too' if place else 'Key'}: `{', '.join(key)}`.")
    declared = _declared(table)
    heads = ["Column", "Type", *declared, ""]
    rows = []
    for column in table.columns:
        kind = column.type + (" NOT NULL" if column.not_null else "")
        rows.append([f"`{column.name}`", kind, *(of[column.name] for of in declared.values()), _cell(column.meaning)])
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in (heads, *rows)]
    lines.insert(1, "|" + "---|" * len(heads))
    return "\n".join([f"### `{table.name}`", "", " ".join(facts), "", *lines])


def _declared(table: Table) -> dict[str, dict[str, str]]:
    """Return what the program declares of a table's columns: by head, the text of each column."""
    heads: dict[str, dict[str, str]] = {}
    if table.name == "runsignup_participants":
        heads["At RunSignup"] = {
            name: f"`{column.source}`" if column.source else "" for name, column in REGISTRATION.items()
        }
    if table.name in TABLES:
        heads["A person's"] = {
            name: "" if privacy is Privacy.KEPT else privacy.value for name, privacy in TABLES[table.name].items()
        }
    return heads


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def filled(text: str, drawn: Mapping[str, str]) -> str:
    """Return the text with every drawn part in its place.

    Raises ValueError where a part has no markers, or markers no part.
    """
    for name, part in drawn.items():
        begin, end = f"<!-- drawn: {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text, count = pattern.subn("\n\n".join([begin, part, end]).replace("\\", r"\\"), text)
        if count != 1:
            raise ValueError(f"{FILE.name} has {count} places for the drawn part {name!r}, not one.")
    if unknown := set(re.findall(r"<!-- drawn: (.*?) -->", text)) - drawn.keys():
        raise ValueError(f"{FILE.name} has places for {', '.join(sorted(unknown))}, which is not drawn.")
    return text


def uncommented(schema: Schema) -> list[str]:
    """Return tables and columns without a comment."""
    found = [table.name for table in schema.values() if not table.comment]
    return found + [
        f"{table.name}.{column.name}" for table in schema.values() for column in table.columns if not column.meaning
    ]


def main() -> int:
    """Draw the file, what the web UI shows of columns, and the schema as SQL, from a PostgreSQL of its own."""
    from tools import schema_sql, table_columns  # which know this module

    with tempfile.TemporaryDirectory(prefix="rsu-docs-") as name:
        folder = Path(name) / "postgres"
        try:
            url = embedded.ensure_running(folder, embedded.machine_binaries())
            with database.session(url, purpose="docs") as conn:
                database.migrate(conn)
                schema = read(conn)
            statements = schema_sql.text(url)
        finally:
            embedded.destroy(folder)
    made = {
        FILE: filled(FILE.read_text(encoding="utf-8"), parts(schema)),
        table_columns.FILE: table_columns.text(schema),
        schema_sql.FILE: statements,
    }
    for path, text in made.items():
        same = path.exists() and path.read_text(encoding="utf-8") == text
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {'unchanged' if same else 'updated'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
