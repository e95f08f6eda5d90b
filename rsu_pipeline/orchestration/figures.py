"""What each figure in the metadata of a materialization means, for the description of its asset in the Dagster UI."""

import dagster as dg

_ROWS = {
    "rows_read": "registrations that RunSignup returned",
    "rows_inserted": "of them, stored for the first time",
    "rows_updated": "of them, stored with another content than before, or active again",
    "rows_unchanged": "of them, stored already just so",
    "rows_removed": "registrations marked as removed, each with its reason",
    "rows_quarantined": "registrations not stored, because they are invalid",
}
_CALLS = {
    "api_calls": "calls to RunSignup",
    "budget_left": "calls that are left to this lane within the hour, for the API key",
    "seconds": "duration",
}
_PROBLEMS = {"problem_count": "problems met, which `problems` lists"}
FIGURES: dict[str, dict[str, str]] = {
    "partner_events": {
        "races": "races that RunSignup lists for the partner",
        "races_written": "of them, new or changed",
        "events_written": "events that are new or changed",
        "events_gone": "events that their race no longer has",
        "races_unlisted": "races that the listing no longer has",
        "races_lost_by_listing": "races that the partner can no longer read",
        "rows_removed_by_listing": "registrations marked as removed with their event or race",
        **_CALLS,
        **_PROBLEMS,
    },
    "future_events": {
        "future_events": "events that still need syncing",
        "full_reads": "full reads of races that the run makes, or made",
        "incremental_reads": "reads of what changed since the last one",
    },
    "participants": {
        **_ROWS,
        "rows_with_faults": "registrations stored without a field that did not parse",
        "bib_changes": "bibs set, changed or cleared",
        "races_read": "races that were read",
        "races_failed": "races that could not be read",
        "races_lost": "races that the partner can no longer read",
        "races_not_read": "races that the call budget did not suffice for",
        "races_read_by_other_syncs": "races that another sync read meanwhile",
        "races_left_to_other_syncs": "races that another sync was still reading",
        "full_reads": "full reads that were made",
        "incremental_reads": "reads of what changed since the last one",
        **_CALLS,
        "looks": "polls, where the watch reports a slice",
        "looks_put_off": "polls that waited for another reader of the race",
        "bibs_assigned": "bibs set, where the sensor bib_changes reports",
        "bibs_changed": "bibs changed",
        "bibs_cleared": "bibs cleared",
        "slowest_seconds": "longest time from RunSignup's change of a bib until it was stored",
    },
    "start_lists": {
        "lists": "events with a start list",
        "entrants": "active registrations of these events",
        "with_bib": "of them, with a bib",
        "without_bib": "of them, without a bib",
        "duplicate_bibs": "entrants whose bib another entrant of the event has",
        "bibs_in_other_events": "entrants whose bib another person has in another event of the race on that day",
        "out_of_range": "entrants whose bib is far from the event's others",
        "in_two_events": "people entered in two events of an edition",
        "entries_inserted": "entries written for the first time",
        "entries_updated": "entries that changed",
        "entries_deleted": "entries that are gone",
        "entries_unchanged": "entries left as they were",
        "seconds": "duration",
    },
    "participant_history": {
        "complete": "1 once every requested past event is settled",
        "cancelled": "1 if the request was cancelled",
        "races": "races with past events that were requested",
        "races_done": "of them, those that are settled",
        "races_failing": "of them, those whose last attempt failed",
        "past_events": "past events that were requested",
        "events_loaded": "of them, those whose registrations are stored",
        "events_empty": "of them, those for which RunSignup returns none",
        "events_unavailable": "of them, those that RunSignup no longer returns",
        "events_unconfirmed": "of them, those that are read again, since one empty answer confirms nothing",
        "registrations": "registrations stored of them",
        "calls_so_far": "calls that the request has used",
        "calls_left_estimate": "calls that it still needs, estimated",
        **_ROWS,
        "races_read": "races read by this run",
        **_CALLS,
        "hours_left_estimate": "time until the request is complete, estimated",
        **_PROBLEMS,
    },
    "registration_report": {
        "events": "upcoming events",
        "entrants": "active registrations of these events",
        "with_bib": "of them, with a bib",
        "priced": "of them, with a known amount",
        "amount_paid": "sum of the known amounts, in the currency of the races",
    },
    "fleet_health": {
        "partners": "partners that are synced",
        "partners_stale": "of them, with an event that was not read in time",
        "partners_failing": "of them, with something whose last attempt failed",
        "partners_off": "disabled partners",
        "partners_without_credential": "partners without a key or secret",
        "credentials_refused": "partners whose credential RunSignup rejects",
        "races_ahead": "races with upcoming events",
        "events_ahead": "upcoming events",
        "events_stale": "of them, not read within twice their interval and ten minutes",
        "failures": "races, listings and past editions whose last attempt failed",
        "rows": "active registrations stored",
        "rows_changed_24h": "registrations written in the last 24 hours",
        "quarantined": "registrations not stored, because they are invalid",
        "rows_with_faults": "registrations stored without a field that did not parse",
        "bibs_24h": "bibs set, changed or cleared in the last 24 hours",
        "calls_this_hour": "calls of the last 60 minutes, with all API keys",
        "calls_this_hour_max": "the most that one API key used",
        "calls_needed_max": "the most that one API key's plan needs in the next hour",
        "calls_limit": "calls per hour that each API key may make",
        "histories_open": "backfills of past editions that are not complete",
        "minutes_overdue_max": "how late the most overdue event is",
        "bib_seconds_p95_max": "time within which 95 % of a partner's bibs were stored, of the slowest partner",
        "standstills": "problems that stop something, which `standing_still` lists",
        "hours_not_syncing": "longest time without syncs within three days, which `downtime` describes",
        "seconds": "duration of the evaluation",
    },
    "race_day_board": {
        "races": "races on the board",
        "races_in_window": "of them, in their window",
        "races_blocked": "of them, those that do not receive bibs",
        "without_bib": "entrants without a bib",
        "duplicate_bibs": "entrants whose bib another entrant of the event has",
    },
}
"""Meaning of each figure by asset and name. The names are the same on every path, so that plots have no gaps."""


def explain_figures(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Return an asset whose description ends with what each figure of its metadata means."""
    return asset.map_asset_specs(_explained)


def _explained(spec: dg.AssetSpec) -> dg.AssetSpec:
    figures = FIGURES.get(spec.key.to_user_string(), {})
    lines = [f"- `{name}`: {meaning}" for name, meaning in figures.items()]
    return spec.replace_attributes(description="\n".join([spec.description or "", "", "Figures:", "", *lines]))
