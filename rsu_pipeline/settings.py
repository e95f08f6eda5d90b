"""Everything that can be set from outside, read once from the environment into one typed object.

A setting is a field, declared once with its variable, its default, its bounds and its meaning. docs/reference/settings.md is
generated from the fields. Nothing else reads settings from `os.environ`. The commands only pass it on to other processes. A
value that cannot be used raises `SettingsError`, whose text is one sentence that names the variable and never repeats a secret
value.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rsu_pipeline import included_fields, setting_values
from rsu_pipeline.eastern import EASTERN
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.setting_values import BibPoll, InFlightScope, Network, integer, number, read_fields, setting


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
        meaning="Races with at most this number of registrations are read in full by every sync, which is one call. 0 turns"
        " this off.",
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


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """How long personal data is kept."""

    contact_days: int = integer(
        "RSU_CONTACT_RETENTION_DAYS",
        0,
        low=0,
        high=36500,
        meaning="Days after an event is over, or a registration removed, until its contact data is deleted at night. 0 keeps it.",
    )


@dataclass(frozen=True, kw_only=True)
class BackupSettings:
    """Where backups are written at night, and how long they are kept."""

    folder: Path | None = setting(
        "RSU_BACKUP_DIR",
        None,
        partial(setting_values.parse_path, "RSU_BACKUP_DIR"),
        "Folder in which a verified backup is written every night at 04:00 (RSU_TIMEZONE).",
        default_words="none is written",
    )
    days: int = integer(
        "RSU_BACKUP_DAYS",
        14,
        low=1,
        high=3650,
        meaning="Days after which a backup there is deleted, once a newer one is verified.",
    )


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Who is notified of alerts."""

    urls: tuple[str, ...] = setting(
        "RSU_ALERT_URLS",
        (),
        setting_values.parse_alert_urls,
        "Addresses of notifiers in apprise's form, separated by commas or blanks. They are secrets as a whole, because many carry a"
        " token in the path.",
        is_secret=True,
    )
    link: str = setting(
        "RSU_ALERT_LINK",
        "http://127.0.0.1:3000",
        setting_values.parse_alert_link,
        "Base address of the Dagster UI, for links in messages.",
        default_words="the UI on 127.0.0.1",
    )


@dataclass(frozen=True, kw_only=True)
class StartListSettings:
    """Files of start lists."""

    folder: Path | None = setting(
        "RSU_START_LIST_DIR",
        None,
        partial(setting_values.parse_folder, "RSU_START_LIST_DIR"),
        "Folder in which `rsu deliver` keeps a file for each start list: [start-list-files.md](../start-list-files.md).",
        default_words="none",
    )
    kind: str = setting(
        "RSU_START_LIST_FORMAT",
        "csv",
        setting_values.parse_list_format,
        "Format of these files, as of `rsu start-list --format`.",
        allowed="`csv`, `raceresult`",
    )


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """Where webhooks may lead."""

    networks: tuple[Network, ...] = setting(
        "RSU_WEBHOOK_NETWORKS",
        (),
        setting_values.parse_networks,
        "Networks of private addresses that webhooks may lead to, such as `10.20.0.0/16`, separated by commas.",
    )


@dataclass(frozen=True, kw_only=True)
class UiSettings:
    """Where the Dagster UI listens and under which names it answers."""

    address: str = setting(
        "RSU_UI_ADDRESS",
        "127.0.0.1",
        setting_values.parse_ip_address,
        "IP address to listen on. Any address but loopback needs `RSU_UI_BEHIND_PROXY`.",
    )
    origins: tuple[str, ...] = setting(
        "RSU_UI_HOSTS",
        (),
        setting_values.parse_ui_origins,
        "Names of the UI beside 127.0.0.1 and localhost, separated by commas: `hub.example.com`, `hub.example.com:8443`, with"
        " `http://` before one that is reached without TLS. See [security](../security.md).",
    )
    is_behind_proxy: bool = setting(
        "RSU_UI_BEHIND_PROXY",
        False,
        partial(setting_values.parse_yes_or_no, "RSU_UI_BEHIND_PROXY"),
        "`yes`: only a proxy with a login, or a container's port that is published on loopback, leads to the address.",
        allowed="`yes`, `no`",
        default_words="`no`",
    )

    def check_address(self, address: str) -> None:
        """Check that people of other machines cannot reach a UI without a login.

        Raises:
            SettingsError: they could.
        """
        if not (self.is_behind_proxy or setting_values.is_loopback(address)):
            raise SettingsError(
                f"The web UI has no login, so it does not listen on {address}, which other machines can reach. Leave it at"
                " 127.0.0.1 and put a proxy with TLS and passwords in front of it (deploy/proxy/nginx.conf), or use an SSH"
                " tunnel. docs/security.md explains how."
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings."""

    home: Path = setting(
        "RSU_HOME",
        Path(".rsu"),
        partial(setting_values.parse_path, "RSU_HOME"),
        "Folder for the files of this installation: the embedded PostgreSQL, the secret key file, logs.",
        default_words="`.rsu` in the checkout",
    )
    database_url: str | None = setting(
        "RSU_DATABASE_URL",
        None,
        setting_values.parse_database_url,
        "libpq URL of the hub's PostgreSQL, in any form. The database must be in UTF8. See [deployment](../deploy.md).",
        default_words="the embedded PostgreSQL",
        is_secret=True,
    )
    secret_keys: tuple[str, ...] = setting(
        "RSU_SECRET_KEY",
        (),
        setting_values.parse_secret_keys,
        "Fernet keys that encrypt partners' secrets, newest first, separated by commas.",
        default_words="the key file in `RSU_HOME`",
        is_secret=True,
    )
    timezone: ZoneInfo = setting(
        "RSU_TIMEZONE",
        EASTERN,
        partial(setting_values.parse_zone, "RSU_TIMEZONE"),
        "Zone of schedules that have a time of day, and of the days in reports.",
        default_words="`America/New_York`",
    )
    ui_port: int = integer("RSU_UI_PORT", 3000, low=1, high=65535, meaning="Port of the Dagster UI.")
    ui: UiSettings = UiSettings()
    api: ApiSettings = ApiSettings()
    budget: BudgetSettings = BudgetSettings()
    sync: SyncSettings = SyncSettings()
    cadence: CadenceSettings = CadenceSettings()
    watch: WatchSettings = WatchSettings()
    history: HistorySettings = HistorySettings()
    privacy: PrivacySettings = PrivacySettings()
    backup: BackupSettings = BackupSettings()
    alerts: AlertSettings = AlertSettings()
    webhooks: WebhookSettings = WebhookSettings()
    start_lists: StartListSettings = StartListSettings()

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


GROUPS: Mapping[str, type] = {
    item.name: item.type for item in fields(Settings) if isinstance(item.type, type) and is_dataclass(item.type)
}
"""The groups of settings, by the names of their fields."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    Raises:
        SettingsError: a value cannot be used. The first such value is named.
    """
    env = os.environ if environ is None else environ
    found: dict[str, Any] = {"home": (project_root() / ".rsu").resolve(), **read_fields(Settings, env)}
    groups = {name: read_fields(group, env) for name, group in GROUPS.items()}
    if ("registration" in groups["api"]) != ("registration_secret" in groups["api"]):
        given, other = ("", "_SECRET") if "registration" in groups["api"] else ("_SECRET", "")
        raise SettingsError(f"RSU_API_REG{given} is set without RSU_API_REG{other}: set both or neither.")
    groups["alerts"].setdefault("link", f"http://127.0.0.1:{found.get('ui_port', Settings.ui_port)}")
    return Settings(**found, **{name: GROUPS[name](**values) for name, values in groups.items()})
