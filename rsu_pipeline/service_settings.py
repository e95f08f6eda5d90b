"""Declare what an installation does beside reading: retention, backups, alerts, start lists, webhooks and the Dagster UI."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rsu_pipeline import setting_values
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.setting_values import Network, integer, setting


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
