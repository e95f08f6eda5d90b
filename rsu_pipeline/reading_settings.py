"""Declare how RunSignup is read: calls, their budget, syncs, their cadence, the watch and past editions."""

from dataclasses import dataclass

from rsu_pipeline import included_fields, setting_values
from rsu_pipeline.setting_values import BibPoll, InFlightScope, integer, number, setting


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """How RunSignup is called."""

    base_url: str = setting(
        "RSU_API_BASE_URL",
        setting_values.DEFAULT_API_BASE_URL,
        setting_values.parse_base_url,
        "Address of RunSignup's API. `https://` except on loopback.",
    )
    connect_timeout: float = number(
        "RSU_CONNECT_TIMEOUT", 5.0, low=0.1, high=600, meaning="Seconds to wait for a connection."
    )
    read_timeout: float = number(
        "RSU_READ_TIMEOUT", 30.0, low=0.1, high=3600, meaning="Seconds to wait for the next bytes of a response."
    )
    total_timeout: float = number(
        "RSU_TOTAL_TIMEOUT",
        120.0,
        low=0.1,
        high=3600,
        meaning="Seconds that a whole call may take. A response that trickles in slowly is cut off here.",
    )
    race_day_timeout: float = number(
        "RSU_RACE_DAY_TIMEOUT",
        15.0,
        low=1,
        high=3600,
        meaning="The same for calls of the watch, and for all calls while a race is in its window, if this is shorter.",
    )
    registration: str | None = setting(
        "RSU_API_REG",
        None,
        str,
        "Id and token of the caller registration, `id.token`. Mandatory at RunSignup from 2027-01-01.",
        is_secret=True,
    )
    registration_secret: str | None = setting(
        "RSU_API_REG_SECRET", None, str, "Secret of the caller registration.", is_secret=True
    )
    attempts: int = integer(
        "RSU_CALL_ATTEMPTS",
        4,
        low=1,
        high=20,
        meaning="Attempts at one call, the first included. Each is counted in the ledger.",
    )
    backoff: float = number(
        "RSU_CALL_BACKOFF", 1.0, low=0, high=600, meaning="Seconds before the second attempt. Doubles, with jitter."
    )


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """The limits of the call ledger."""

    calls_per_hour: int = integer(
        "RSU_CALLS_PER_HOUR",
        1000,
        low=1,
        high=1_000_000,
        meaning="Calls per API key over any sliding hour, however many partners share the key.",
    )
    max_in_flight: int = integer(
        "RSU_MAX_IN_FLIGHT", 2, low=1, high=100, meaning="Calls at a time. RunSignup's terms allow a caller two."
    )
    in_flight_scope: InFlightScope = setting(
        "RSU_IN_FLIGHT_SCOPE",
        "all",
        setting_values.parse_scope,
        "Whether calls at a time are counted over all API keys or for each one.",
        allowed="`all`, `credential`",
    )


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """How a sync decides and reads."""

    incremental_days: float = number(
        "RSU_INCREMENTAL_DAYS", 7.0, low=0, high=3650, meaning="Days after which an event is read in full again."
    )
    event_hours: float = number(
        "RSU_EVENT_HOURS",
        6.0,
        low=1,
        high=72,
        meaning="Hours that an event without an end is assumed to last. Most road marathons close their course after about six."
        " The full reads after the end, at once and a day later, cover longer ones.",
    )
    page_size: int = integer(
        "RSU_PAGE_SIZE",
        2500,
        low=1,
        high=2500,
        meaning="Registrations requested in one call. 2500 is RunSignup's maximum.",
    )
    cursor_overlap: int = integer(
        "RSU_CURSOR_OVERLAP",
        120,
        low=10,
        high=86400,
        meaning="Seconds by which a cursor is set back, for clock skew and rows that become visible late. RunSignup advises at"
        " least 10.",
    )
    max_clock_skew: float = number(
        "RSU_MAX_CLOCK_SKEW",
        120.0,
        low=10,
        high=300,
        meaning="Seconds by which the clocks of hub, database and RunSignup may differ. The cursor's overlap covers as much.",
    )
    mass_removal_share: float = number(
        "RSU_MASS_REMOVAL_SHARE",
        0.2,
        low=0,
        high=1,
        meaning="A full read that would remove a larger share of an event, a race or a partner removes none, and the removals"
        " are pending confirmation.",
    )
    mass_removal_floor: int = 5
    """This many removals are always allowed, regardless of their share."""
    race_detail_hours: float = number(
        "RSU_RACE_DETAIL_HOURS",
        24.0,
        low=1,
        high=8760,
        meaning="Hours after which the detail of a race with an upcoming edition is read again though its record seems unchanged."
        " That is one call per such race and day. Races with past editions only are read a seventh as often.",
    )
    full_read_up_to_rows: int = integer(
        "RSU_FULL_READ_UP_TO_ROWS",
        500,
        low=0,
        high=10_000_000,
        meaning="Races with at most this number of registrations are read in full by every sync, which is one call. The nightly"
        " sync reads every race in full that fits one page. 0 turns both off.",
    )
    include: tuple[str, ...] = setting(
        "RSU_INCLUDE",
        included_fields.DEFAULT,
        setting_values.parse_include,
        "Optional fields of registrations that are requested, unless a partner has its own: `all`, `none` or names with commas"
        " between them.",
        allowed=", ".join(f"`{name}`" for name in included_fields.FLAGS),
        default_words=f"`{included_fields.format_include(included_fields.DEFAULT)}`",
    )


@dataclass(frozen=True, kw_only=True)
class CadenceSettings:
    """Seconds between two reads of a race, by the distance of its events."""

    later: float = number(
        "RSU_INTERVAL_LATER",
        4 * 3600.0,
        low=60,
        high=7 * 86400,
        meaning="More than 24 hours before the start, or if no start is known. Also for the listing of races.",
    )
    day: float = number(
        "RSU_INTERVAL_DAY", 15 * 60.0, low=60, high=86400, meaning="From 24 to 4 hours before the start."
    )
    window: float = number(
        "RSU_INTERVAL_WINDOW",
        5 * 60.0,
        low=60,
        high=86400,
        meaning="From 4 hours before the start, if the watch does not run. The watch polls far more often.",
    )
    after_failure: float = number(
        "RSU_INTERVAL_AFTER_FAILURE",
        15 * 60.0,
        low=60,
        high=86400,
        meaning="After a read that failed, if this is shorter than the race's interval.",
    )


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """How races in their window are watched."""

    interval: float = number(
        "RSU_WATCH_INTERVAL",
        20.0,
        low=1,
        high=3600,
        meaning="Seconds between two polls of a race, if budget and calls in flight allow.",
    )
    removed_every: int = integer(
        "RSU_WATCH_REMOVED_EVERY",
        6,
        low=1,
        high=1000,
        meaning="Removed registrations are requested at every n-th poll. A small race is read in full instead.",
    )
    refresh_seconds: float = number(
        "RSU_WATCH_EVENTS",
        300.0,
        low=1,
        high=86400,
        meaning="Seconds between two refreshes of the events of a race in its window, one call each, so that a start that moves"
        " is noticed. Where calls are short it is more. That is 12 of about 200 calls per race and hour.",
    )
    slice_seconds: float = number(
        "RSU_WATCH_SLICE",
        600.0,
        low=10,
        high=7200,
        meaning="Seconds that one run watches before its successor takes over.",
    )
    shards: int = integer("RSU_WATCH_SHARDS", 1, low=1, high=100, meaning="Runs that share the partners among them.")
    bib_poll: BibPoll = setting(
        "RSU_BIB_POLL",
        "watch",
        setting_values.parse_bib_poll,
        "`watch`: runs of the job watch poll for bibs. `sensor`: no such runs, the sensor bib_changes polls by itself.",
        allowed="`watch`, `sensor`",
    )

    @property
    def refreshes_per_poll(self) -> float:
        """Calls for the events of a race per poll, on average."""
        return min(1.0, self.interval / self.refresh_seconds)


@dataclass(frozen=True, kw_only=True)
class HistorySettings:
    """How past editions are read."""

    slice_seconds: float = number(
        "RSU_HISTORY_SLICE",
        300.0,
        low=1,
        high=3000,
        meaning="Seconds that one run reads before its successor takes over, so that other runs have their turn.",
    )
