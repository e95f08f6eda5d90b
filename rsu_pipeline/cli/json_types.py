"""Declare what the commands print with `--json`, except of a race day (`race_json_types`).

Other programs may rely on each field. Times are ISO 8601 with their offset, in UTC unless the field names another zone.
"""

import datetime as dt
from typing import Annotated, Literal, NotRequired, TypedDict

PartnerKey = Annotated[str, "partition key of the partner"]
PartnerId = Annotated[int, "id of the partner"]
RaceId = Annotated[int, "RunSignup's id of the race"]
EventId = Annotated[int, "RunSignup's id of the event"]
RegistrationId = Annotated[int, "RunSignup's id of the registration"]


class OpenAlert(TypedDict):
    """An open alert."""

    kind: Annotated[str, "kind of the alert, as in docs/alerts.md"]
    cause: Annotated[str, "what distinguishes it from other alerts of its kind"]
    partner: Annotated[str | None, "partition key of the partner, if it concerns one"]
    sentence: Annotated[str, "what is wrong and what to do"]
    run_id: Annotated[str | None, "Dagster run that it concerns"]
    first_seen_at: Annotated[dt.datetime, "when it was found first"]
    last_seen_at: Annotated[dt.datetime, "when it was found last"]
    told_at: Annotated[dt.datetime | None, "when a notifier accepted its message"]
    failed_sends: Annotated[int, "notifications that failed"]


class BackfillProgress(TypedDict):
    """The progress of a partner's backfill. Counts are of the requested races and past events."""

    key: PartnerKey
    since_year: Annotated[int | None, "first year that was requested, null for all"]
    requested_at: Annotated[dt.datetime, "when it was requested"]
    finished_at: Annotated[dt.datetime | None, "when nothing was left to read"]
    cancelled_at: Annotated[dt.datetime | None, "when it was cancelled"]
    not_before: Annotated[dt.datetime, "when its next slice may begin"]
    races: Annotated[int, "races"]
    races_done: Annotated[int, "races of which nothing is left to read"]
    failing: Annotated[int, "races whose last attempt failed"]
    retry_at: Annotated[dt.datetime | None, "when the first of them is retried"]
    events: Annotated[int, "past events"]
    loaded: Annotated[int, "events with stored registrations"]
    empty: Annotated[int, "events without a registration"]
    unavailable: Annotated[int, "events that RunSignup no longer returns"]
    unconfirmed: Annotated[int, "events that are read again, since one empty answer confirms nothing"]
    registrations: Annotated[int, "active registrations stored of them"]
    calls: Annotated[int, "calls since the request"]
    is_complete: Annotated[bool, "whether nothing is left"]


class BackfillOutput(TypedDict):
    """The chosen partners with a backfill."""

    partners: list[BackfillProgress]


class AdoptionStep(TypedDict):
    """A step of an adoption."""

    table: Annotated[str, "table or view"]
    what: Annotated[str, "what is done to it"]
    rows: Annotated[int | None, "rows that it concerns"]


class OtherCredential(TypedDict):
    """A credential in clear text of another provider, which the program leaves alone."""

    credential_id: Annotated[int, "id of the credential"]
    partner_id: PartnerId
    provider_id: Annotated[int, "id of the provider"]
    provider: Annotated[str, "name of the provider"]


class AdoptionOutput(TypedDict):
    """An adoption that was done or rehearsed."""

    database: Annotated[str, "server and database, without a password"]
    dry_run: Annotated[bool, "whether everything was rolled back"]
    roles_that_may_write: Annotated[list[str], "other database roles that may write to the tables"]
    nothing_to_do: Annotated[bool, "whether the database was adopted before"]
    steps: list[AdoptionStep]
    rows: Annotated[dict[str, int], "rows by table"]
    moved: Annotated[dict[str, dict[str, int]], "by table: rows that cannot stay, by reason"]
    credentials_in_clear: Annotated[int, "credentials that are encrypted at the next read"]
    other_credentials_in_clear: list[OtherCredential]
    keys_in_clear_elsewhere: Annotated[dict[str, int], "by table: rows with a partner's key"]
    seconds: Annotated[float, "duration"]
    locked_seconds: Annotated[float, "how long nobody else could use the tables"]


class FailedCheck(TypedDict):
    """A check that failed."""

    check: Annotated[str, "name of the check"]
    sentence: Annotated[str, "what is wrong and what to do"]


class HealthOutput(TypedDict):
    """The result of the checks."""

    healthy: Annotated[bool, "whether every check passed"]
    checks: Annotated[list[str], "names of the checks that were made"]
    reasons: list[FailedCheck]
    seconds: Annotated[float, "duration of the last round"]
    backup_hours: Annotated[float | None, "age of the newest backup, null without one"]


class LoggedSync(TypedDict):
    """A row of the sync log: a read of a race, or a listing of races."""

    key: Annotated[str | None, "partition key of the partner"]
    race_id: Annotated[int | None, "RunSignup's id of the race, null for a listing"]
    race: Annotated[str | None, "name of the race"]
    operation: Annotated[str, "full, incremental or history, events for a listing"]
    status: Annotated[Literal["completed", "partial", "failed"], "outcome, partial if some rows were not stored"]
    why: Annotated[str, "reason of the read, or its error if it failed"]
    finished_at: Annotated[dt.datetime, "when it ended"]
    seconds: Annotated[int, "duration, rounded"]
    counts: Annotated[dict[str, int], "what was read, stored and removed, by name"]
    run_id: Annotated[str | None, "Dagster run"]


class PartnerListing(TypedDict):
    """A timing partner and the state of its credential."""

    partner_id: PartnerId
    name: Annotated[str, "name of the company"]
    key: Annotated[str | None, "partition key, null until the partner is onboarded"]
    disabled_at: Annotated[dt.datetime | None, "when the partner was disabled"]
    credential_id: Annotated[int | None, "id of the credential, null if there is none"]
    scheme: Annotated[str, "how the credential is sent"]
    verified_at: Annotated[dt.datetime | None, "when the credential was last verified"]
    rejected_at: Annotated[dt.datetime | None, "when RunSignup rejected the credential"]
    rejected_reason: Annotated[str | None, "RunSignup's reason"]
    entered_at: Annotated[dt.datetime | None, "when the credential was entered"]
    include: Annotated[list[str] | None, "optional fields that are requested, null for those of `RSU_INCLUDE`"]
    state: Annotated[str, "what the credential gives access to, in words"]


class DriftingField(TypedDict):
    """A field of registrations that this program does not know, or knows in another form."""

    field: Annotated[str, "name of the field, `user.` before those of the person"]
    kind: Annotated[
        Literal["unknown", "form", "type"], "new, in a form that is not known, or of another type than before"
    ]
    occurrences: Annotated[int, "registrations that were read with it, each as often as it was read"]
    partners: Annotated[int, "partners with it"]
    races: Annotated[int, "races with it"]
    first_seen_at: Annotated[dt.datetime, "when it was first read"]
    last_seen_at: Annotated[dt.datetime, "when it was last read"]
    is_accepted: Annotated[bool, "whether it was accepted, so that no check reports it"]


class Downtime(TypedDict):
    """A time in which nothing was synced, and what was caught up of the partner since."""

    since: Annotated[dt.datetime, "when it began"]
    until: Annotated[dt.datetime | None, "when it ended, null while it lasts"]
    hours: Annotated[float, "duration"]
    races_over: NotRequired[Annotated[int, "races that ended in it"]]
    bibs: NotRequired[Annotated[int, "bibs that changed in it"]]
    new: NotRequired[Annotated[int, "registrations that are new"]]
    changed: NotRequired[Annotated[int, "registrations that changed"]]
    removed: NotRequired[Annotated[int, "registrations that were removed"]]
    reads_left: NotRequired[Annotated[int, "events that still wait for a full read after their end"]]


class Access(TypedDict):
    """What a partner's credential gives access to."""

    state: Annotated[
        str, "works, lost some, no races any more, no races yet, not verified, not tried yet, or why it is not synced"
    ]
    races: Annotated[int, "races that RunSignup lists"]
    races_known: Annotated[int, "races that it ever listed, without those that RunSignup deleted"]
    races_lost: Annotated[list[int], "RunSignup's ids of the races to which access was lost"]
    sentence: Annotated[str | None, "what an operator must know and do, null if nothing"]
    back_at: Annotated[dt.datetime | None, "when lost access came back, if recently"]


class PartnerStatus(TypedDict):
    """What is stored of a partner, and when it was last read."""

    partner_id: PartnerId
    key: Annotated[str | None, "partition key, null until the partner is onboarded"]
    name: Annotated[str, "name of the company"]
    races: Annotated[int, "races that it has or had access to"]
    events: Annotated[int, "events of these races that RunSignup lists"]
    future_events: Annotated[int, "events that are not over"]
    participants: Annotated[int, "active registrations"]
    quarantined: Annotated[int, "rows that could not be stored as sent"]
    last_sync: Annotated[dt.datetime | None, "when anything was last read without failing"]
    last_error: Annotated[str | None, "newest failure since then"]
    last_error_at: Annotated[dt.datetime | None, "when it happened"]
    calls_this_hour: Annotated[int, "calls with its API key within an hour, by every partner that shares it"]
    credential: Annotated[str, "state of the key and secret in words"]
    access: Access
    stalest_event: Annotated[int | None, "event that is closest to late, or beyond it"]
    stalest_read: Annotated[dt.datetime | None, "when it was last read"]
    minutes_overdue: Annotated[float | None, "by how much it is late, 0 if it is not"]
    history: BackfillProgress | None
    downtimes: list[Downtime]


class SyncResult(TypedDict):
    """The result of a partner's run. Counts are missing if the run failed before they were known."""

    partner: PartnerKey
    ok: Annotated[bool, "whether everything was read"]
    run_id: Annotated[str, "Dagster run"]
    error: Annotated[str, "what failed, empty if nothing did"]
    races: NotRequired[Annotated[int, "races that RunSignup lists"]]
    races_written: NotRequired[Annotated[int, "of these new or changed"]]
    races_unlisted: NotRequired[Annotated[int, "races that RunSignup does not list any more"]]
    races_lost_by_listing: NotRequired[Annotated[int, "of these without access"]]
    rows_removed_by_listing: NotRequired[Annotated[int, "registrations removed with them"]]
    events_written: NotRequired[Annotated[int, "events that are new or changed"]]
    events_gone: NotRequired[Annotated[int, "events that are gone"]]
    problem_count: NotRequired[Annotated[int, "problems of the listing"]]
    future_events: NotRequired[Annotated[int, "events that are not over"]]
    full_reads: NotRequired[Annotated[int, "full reads that were made"]]
    incremental_reads: NotRequired[Annotated[int, "reads of what changed that were made"]]
    races_read: NotRequired[Annotated[int, "races that were read"]]
    races_failed: NotRequired[Annotated[int, "races that failed"]]
    races_lost: NotRequired[Annotated[int, "races to which access was lost"]]
    races_not_read: NotRequired[Annotated[int, "races that were left for the next sync"]]
    races_read_by_other_syncs: NotRequired[Annotated[int, "races that another sync read meanwhile"]]
    races_left_to_other_syncs: NotRequired[Annotated[int, "races that another sync is still reading"]]
    rows_read: NotRequired[Annotated[int, "registrations that RunSignup returned"]]
    rows_inserted: NotRequired[Annotated[int, "of these new"]]
    rows_updated: NotRequired[Annotated[int, "of these changed"]]
    rows_unchanged: NotRequired[Annotated[int, "of these unchanged"]]
    rows_removed: NotRequired[Annotated[int, "registrations that were removed"]]
    rows_quarantined: NotRequired[Annotated[int, "rows that could not be stored"]]
    rows_with_faults: NotRequired[Annotated[int, "rows stored without fields that could not be parsed"]]
    bib_changes: NotRequired[Annotated[int, "rows added to the bib log"]]
    api_calls: NotRequired[Annotated[int, "calls of the run"]]
    budget_left: NotRequired[Annotated[int, "calls left this hour"]]
    lists: NotRequired[Annotated[int, "start lists"]]
    entrants: NotRequired[Annotated[int, "entrants on them"]]
    with_bib: NotRequired[Annotated[int, "of these with a bib"]]
    without_bib: NotRequired[Annotated[int, "of these without a bib"]]
    duplicate_bibs: NotRequired[Annotated[int, "of these with a bib of another entrant"]]
    bibs_in_other_events: NotRequired[Annotated[int, "of these with a bib of another event of the day"]]
    out_of_range: NotRequired[Annotated[int, "of these with a bib out of range"]]
    in_two_events: NotRequired[Annotated[int, "of these in two events that overlap"]]
    entries_inserted: NotRequired[Annotated[int, "entries of start lists that are new"]]
    entries_updated: NotRequired[Annotated[int, "entries that changed"]]
    entries_deleted: NotRequired[Annotated[int, "entries that were deleted"]]
    entries_unchanged: NotRequired[Annotated[int, "entries that are unchanged"]]


class SyncOutput(TypedDict):
    """The runs of the chosen partners."""

    partners: list[SyncResult]


class ImportedRow(TypedDict):
    """A row of the file."""

    line: Annotated[int, "line of the file at which the row ends"]
    name: Annotated[str, "name of the partner"]
    outcome: Annotated[Literal["added", "changed", "unchanged", "refused"], "what the row does"]
    partner: Annotated[str | None, "partition key of the partner, null unless it was entered"]
    reason: Annotated[str, "why it was refused, else empty"]


class ImportOutput(TypedDict):
    """The rows of a file of partners."""

    entered: Annotated[bool, "whether the rows were entered, which is all or none"]
    rows: list[ImportedRow]


class WebhookListing(TypedDict):
    """A webhook, without its address and secret."""

    webhook_id: Annotated[int, "number of the webhook"]
    partner_id: Annotated[int | None, "id of the partner whose changes it is sent, null for all"]
    partner: Annotated[str | None, "partition key of that partner"]
    host: Annotated[str, "host and port of its address"]
    kinds: Annotated[list[str], "kinds of messages that it is sent"]
    state: Annotated[str, "its state in words"]
    created_at: Annotated[dt.datetime, "when it was added"]
    disabled_at: Annotated[dt.datetime | None, "since when it is sent nothing more"]
    failing_since: Annotated[dt.datetime | None, "since when no attempt succeeded"]
    last_error: Annotated[str | None, "why the last attempt failed"]
    delivered_at: Annotated[dt.datetime | None, "when it last accepted a message"]
    pending: Annotated[int, "messages that are not delivered yet"]
    oldest_pending_at: Annotated[dt.datetime | None, "when the oldest of them was stored"]
    dead: Annotated[int, "messages that were given up"]
