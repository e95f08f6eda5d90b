"""The rules of start lists, in SQL: which events have one, who is on it, and which problems each entrant has.

`start_lists` describes how each problem is found, and runs these statements.
"""

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.event_times import OVER_AT

_ENTRY = "event_id race_id bib bib_number bib_source first_name last_name age gender city state team problems".split()
_FIGURES = (
    "race_id race_day age_day entrants with_bib without_bib duplicate_bibs bibs_in_other_events out_of_range in_two_events"
    " lowest_bib highest_bib registrations_changed_at"
).split()


def _columns(names: list[str], alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


def _assignments(names: list[str]) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in names)


_PERSONS = (
    "event_id race_id edition race_day age_day is_listed registration_id user_id sent_age dob gender own_bib team_bib local_bib"
    " first_name last_name city state team sent_bib team_of_bib person"
).split()
_PERSON = ", ".join(_PERSONS)
_OF_BUNDLE = {"event_id": "b.event_id", "person": "p.person"}
_PERSON_OF_BUNDLE = ", ".join(_OF_BUNDLE.get(name, "NULL") for name in _PERSONS)
_SQL = load(
    __file__,
    OVER_AT=OVER_AT,
    PERSON=_PERSON,
    PERSON_OF_BUNDLE=_PERSON_OF_BUNDLE,
    ENTRY=", ".join(_ENTRY),
    NEW_ENTRY=_columns(_ENTRY, "e"),
    STORED_ENTRY=_columns(_ENTRY, "s"),
    SET_ENTRY=_assignments(_ENTRY),
    FIGURES=", ".join(_FIGURES),
    NEW_FIGURES=_columns(_FIGURES, "f"),
    STORED_FIGURES=_columns(_FIGURES, "s"),
    SET_FIGURES=_assignments(_FIGURES),
)
IS_CURRENT, REBUILD = _SQL["is_current"], _SQL["rebuild"]
