"""Everything that can be set from outside, read once from the environment into one typed object.

A setting is a field, declared once with its variable, its default, its bounds and its meaning: in `reading_settings` or
`service_settings`, or here if it belongs to no group. docs/reference/settings.md is generated from the fields. Nothing else
reads settings from `os.environ`. The commands only pass it on to other processes. A value that cannot be used raises
`SettingsError`, whose text is one sentence that names the variable and never repeats a secret value.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rsu_pipeline import setting_values
from rsu_pipeline.eastern import EASTERN
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.reading_settings import (
    ApiSettings,
    BudgetSettings,
    CadenceSettings,
    HistorySettings,
    SyncSettings,
    WatchSettings,
)
from rsu_pipeline.service_settings import (
    AlertSettings,
    BackupSettings,
    PrivacySettings,
    StartListSettings,
    UiSettings,
    WebhookSettings,
)
from rsu_pipeline.setting_values import integer, read_fields, setting


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
        "Zone of schedules that have a time of day, of the days in reports, and of every time that people are shown, except a"
        " race's own.",
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
