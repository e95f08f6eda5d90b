"""Everything that can be set from outside, read once from the environment into one typed object.

Nothing else reads settings from `os.environ`. The commands only pass it on to other processes. A value that cannot be
used raises `SettingsError`, whose text is one sentence that names the variable and never repeats a secret value.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from rsu_pipeline import setting_values
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.setting_values import DEFAULT_API_BASE_URL, BibPoll, InFlightScope


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """How RunSignup is called."""

    base_url: str = DEFAULT_API_BASE_URL
    connect_timeout: float = 5.0
    """Seconds to wait for a connection."""
    read_timeout: float = 30.0
    """Seconds to wait for the next bytes of a response."""
    total_timeout: float = 120.0
    """Seconds that a whole call may take. A response that trickles in slowly is cut off here."""
    race_day_timeout: float = 15.0
    """The same for calls of the watch, and for all calls while a race is in its window, if this is shorter."""
    registration: str | None = field(default=None, repr=False)
    """`<id>.<token>` of the caller registration, mandatory at RunSignup from 2027-01-01."""
    registration_secret: str | None = field(default=None, repr=False)
    attempts: int = 4
    """Attempts at one call, the first included. Each is counted in the ledger."""
    backoff: float = 1.0
    """Seconds before the second attempt. Doubles, with jitter."""


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """The limits of the call ledger."""

    calls_per_hour: int = 1000
    """Calls per credential, over any sliding hour."""
    max_in_flight: int = 2
    """RunSignup's terms allow a caller two calls at a time."""
    in_flight_scope: InFlightScope = "all"
    """Whether `max_in_flight` counts over all credentials or for each one."""


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """How a sync decides and reads."""

    incremental_days: float = 7.0
    event_hours: float = 6.0
    """Hours that an event without an end is assumed to last.

    Most road marathons close their course after about six. The full reads after the end, at once and a day later, cover longer
    ones.
    """
    """Days after which a race is read in full again."""
    page_size: int = 2500
    """Registrations requested in one call. 2500 is RunSignup's maximum."""
    cursor_overlap: int = 120
    """Seconds by which a cursor is set back, for clock skew and rows that become visible late. RunSignup advises at least 10."""
    max_clock_skew: float = 120.0
    """Seconds by which the clocks of hub, database and RunSignup may differ. The cursor's overlap covers as much."""
    mass_removal_share: float = 0.2
    """A full read that would remove more than this share of an event's registrations removes none."""
    mass_removal_floor: int = 5
    """This many removals are always allowed, regardless of their share."""
    race_detail_hours: float = 24.0
    """Hours after which the detail of a race with an upcoming edition is read again though its record seems unchanged.

    That is one call per such race and day. Races with past editions only are read a seventh as often.
    """
    full_read_up_to_rows: int = 500
    """Races with at most this many registrations are read in full by every sync, which is one call. 0 turns this off."""


@dataclass(frozen=True, kw_only=True)
class CadenceSettings:
    """Seconds between two reads of a race, by the distance of its events."""

    later: float = 4 * 3600
    """More than 24 hours before the start, or if no start is known. Also for the listing of races."""
    day: float = 15 * 60
    """From 24 to 4 hours before the start."""
    window: float = 5 * 60
    """From 4 hours before the start, if the watch does not run. The watch polls far more often."""
    after_failure: float = 15 * 60
    """After a read that failed, if this is shorter than the race's interval."""


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """How races in their window are watched."""

    interval: float = 20.0
    """Seconds between two polls of a race, if budget and calls in flight allow."""
    removed_every: int = 6
    """Removed registrations are requested at every n-th poll. A small race is read in full instead."""
    refresh_seconds: float = 300.0
    """Seconds between two refreshes of the events of a race in its window, one call each.

    That is 12 of about 200 calls per race and hour. A start that moves is noticed within this time.
    """
    slice_seconds: float = 600.0
    """How long one run watches before its successor takes over."""
    shards: int = 1
    """Runs that share the partners among them."""
    bib_poll: BibPoll = "watch"
    """`watch`: runs of job watch poll for bibs. `sensor`: no such runs, the sensor bib_changes polls itself."""

    @property
    def refreshes_per_poll(self) -> float:
        """Calls for the events of a race per poll, on average."""
        return min(1.0, self.interval / self.refresh_seconds)


@dataclass(frozen=True, kw_only=True)
class HistorySettings:
    """How past editions are read."""

    slice_seconds: float = 300.0
    """How long one run reads before its successor takes over, so that other runs have their turn."""


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """How long personal data is kept."""

    contact_days: int = 0
    """Days after an event is over, or a registration removed, until its contact data is deleted at night. 0 keeps it."""


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Who is notified of alerts."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    """Addresses of notifiers in apprise's form. They are secrets as a whole, because many carry a token in the path."""
    link: str = "http://127.0.0.1:3000"
    """Base address of the Dagster UI, for links in messages."""


@dataclass(frozen=True, kw_only=True)
class UiSettings:
    """Where the web UI listens and under which names it answers."""

    address: str = "127.0.0.1"
    """IP address to listen on. Any address but loopback needs `is_behind_proxy`."""
    origins: tuple[str, ...] = ()
    """Origins of the page beside those on loopback, such as https://hub.example.com."""
    is_behind_proxy: bool = False
    """Whether only a proxy with a login, or the port that a container publishes on loopback, leads to the address."""

    def check_address(self, address: str) -> None:
        """Check that people of other machines cannot reach a UI without a login.

        Raises:
            SettingsError: they could.
        """
        try:
            is_loopback = ipaddress.ip_address(address).is_loopback
        except ValueError:  # a name, which may lead anywhere
            is_loopback = address == "localhost"
        if not (is_loopback or self.is_behind_proxy):
            raise SettingsError(
                f"The web UI has no login, so it does not listen on {address}, which other machines can reach. Leave it at"
                " 127.0.0.1 and put a proxy with TLS and passwords in front of it (deploy/proxy/nginx.conf), or use an SSH"
                " tunnel. docs/security.md explains how."
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, with defaults for every one."""

    home: Path
    """Folder for the files of this installation: the embedded PostgreSQL, the secret key file, logs."""
    database_url: str | None = field(default=None, repr=False)
    """libpq URL of the hub's database. None means the embedded PostgreSQL."""
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    """Fernet keys that encrypt partners' secrets, newest first. Empty means the key file in `home`."""
    timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo("America/New_York"))
    ui_port: int = 3000
    ui: UiSettings = UiSettings()
    api: ApiSettings = ApiSettings()
    budget: BudgetSettings = BudgetSettings()
    sync: SyncSettings = SyncSettings()
    cadence: CadenceSettings = CadenceSettings()
    watch: WatchSettings = WatchSettings()
    history: HistorySettings = HistorySettings()
    privacy: PrivacySettings = PrivacySettings()
    alerts: AlertSettings = AlertSettings()

    @property
    def ui_url(self) -> str:
        """Address at which this machine reaches the web UI."""
        address = ipaddress.ip_address(self.ui.address)
        if address.is_unspecified:
            return f"http://127.0.0.1:{self.ui_port}"
        return f"http://{address}:{self.ui_port}" if address.version == 4 else f"http://[{address}]:{self.ui_port}"


def project_root() -> Path:
    """Return the folder with dagster.yaml and workspace.yaml: the checkout of the package, else the working directory."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "workspace.yaml").exists() else Path.cwd()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    Raises:
        SettingsError: a value cannot be used. The first such value is named.
    """
    env = os.environ if environ is None else environ
    read = setting_values.Reader(env)
    default = Settings(home=project_root() / ".rsu")
    registration, registration_secret = read.text("RSU_API_REG"), read.text("RSU_API_REG_SECRET")
    if (registration is None) != (registration_secret is None):
        given, other = ("", "_SECRET") if registration else ("_SECRET", "")
        raise SettingsError(f"RSU_API_REG{given} is set without RSU_API_REG{other}: set both or neither.")
    ui_port = read.integer("RSU_UI_PORT", default.ui_port, low=1, high=65535)
    return Settings(
        home=setting_values.parse_home(read.text("RSU_HOME") or str(default.home)),
        database_url=setting_values.parse_database_url(read.text("RSU_DATABASE_URL")),
        secret_keys=tuple(key.strip() for key in (read.text("RSU_SECRET_KEY") or "").split(",") if key.strip()),
        timezone=read.zone("RSU_TIMEZONE", default.timezone),
        ui_port=ui_port,
        ui=UiSettings(
            address=setting_values.parse_ip_address(read.text("RSU_UI_ADDRESS") or default.ui.address),
            origins=setting_values.parse_ui_origins(read.text("RSU_UI_HOSTS") or ""),
            is_behind_proxy=setting_values.parse_yes_or_no(
                "RSU_UI_BEHIND_PROXY", read.text("RSU_UI_BEHIND_PROXY") or "no"
            ),
        ),
        api=ApiSettings(
            base_url=setting_values.parse_base_url(read.text("RSU_API_BASE_URL") or default.api.base_url),
            connect_timeout=read.number("RSU_CONNECT_TIMEOUT", default.api.connect_timeout, low=0.1, high=600),
            read_timeout=read.number("RSU_READ_TIMEOUT", default.api.read_timeout, low=0.1, high=3600),
            total_timeout=read.number("RSU_TOTAL_TIMEOUT", default.api.total_timeout, low=0.1, high=3600),
            race_day_timeout=read.number("RSU_RACE_DAY_TIMEOUT", default.api.race_day_timeout, low=1, high=3600),
            registration=registration,
            registration_secret=registration_secret,
            attempts=read.integer("RSU_CALL_ATTEMPTS", default.api.attempts, low=1, high=20),
            backoff=read.number("RSU_CALL_BACKOFF", default.api.backoff, low=0, high=600),
        ),
        budget=BudgetSettings(
            calls_per_hour=read.integer("RSU_CALLS_PER_HOUR", default.budget.calls_per_hour, low=1, high=1_000_000),
            max_in_flight=read.integer("RSU_MAX_IN_FLIGHT", default.budget.max_in_flight, low=1, high=100),
            in_flight_scope=setting_values.parse_scope(
                read.text("RSU_IN_FLIGHT_SCOPE") or default.budget.in_flight_scope
            ),
        ),
        sync=SyncSettings(
            event_hours=read.number("RSU_EVENT_HOURS", default.sync.event_hours, low=1, high=72),
            incremental_days=read.number("RSU_INCREMENTAL_DAYS", default.sync.incremental_days, low=0, high=3650),
            page_size=read.integer("RSU_PAGE_SIZE", default.sync.page_size, low=1, high=2500),
            cursor_overlap=read.integer("RSU_CURSOR_OVERLAP", default.sync.cursor_overlap, low=10, high=86400),
            max_clock_skew=read.number("RSU_MAX_CLOCK_SKEW", default.sync.max_clock_skew, low=10, high=300),
            mass_removal_share=read.number("RSU_MASS_REMOVAL_SHARE", default.sync.mass_removal_share, low=0, high=1),
            race_detail_hours=read.number("RSU_RACE_DETAIL_HOURS", default.sync.race_detail_hours, low=1, high=8760),
            full_read_up_to_rows=read.integer(
                "RSU_FULL_READ_UP_TO_ROWS", default.sync.full_read_up_to_rows, low=0, high=10_000_000
            ),
        ),
        cadence=CadenceSettings(
            later=read.number("RSU_INTERVAL_LATER", default.cadence.later, low=60, high=7 * 86400),
            day=read.number("RSU_INTERVAL_DAY", default.cadence.day, low=60, high=86400),
            window=read.number("RSU_INTERVAL_WINDOW", default.cadence.window, low=60, high=86400),
            after_failure=read.number("RSU_INTERVAL_AFTER_FAILURE", default.cadence.after_failure, low=60, high=86400),
        ),
        watch=WatchSettings(
            interval=read.number("RSU_WATCH_INTERVAL", default.watch.interval, low=1, high=3600),
            removed_every=read.integer("RSU_WATCH_REMOVED_EVERY", default.watch.removed_every, low=1, high=1000),
            refresh_seconds=read.number("RSU_WATCH_EVENTS", default.watch.refresh_seconds, low=1, high=86400),
            slice_seconds=read.number("RSU_WATCH_SLICE", default.watch.slice_seconds, low=10, high=7200),
            shards=read.integer("RSU_WATCH_SHARDS", default.watch.shards, low=1, high=100),
            bib_poll=setting_values.parse_bib_poll(read.text("RSU_BIB_POLL") or default.watch.bib_poll),
        ),
        history=HistorySettings(
            slice_seconds=read.number("RSU_HISTORY_SLICE", default.history.slice_seconds, low=1, high=3000),
        ),
        privacy=PrivacySettings(
            contact_days=read.integer("RSU_CONTACT_RETENTION_DAYS", default.privacy.contact_days, low=0, high=36500),
        ),
        alerts=AlertSettings(
            urls=setting_values.parse_alert_urls(read.text("RSU_ALERT_URLS") or ""),
            link=setting_values.parse_alert_link(read.text("RSU_ALERT_LINK") or f"http://127.0.0.1:{ui_port}"),
        ),
    )
