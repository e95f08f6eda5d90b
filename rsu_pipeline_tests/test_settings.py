"""Every setting, good and bad: a bad one is one sentence that names its variable and repeats no secret."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline import setting_values, settings
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.setting_values import declared_settings
from rsu_pipeline.settings import GROUPS, Settings, load_settings

SECRET = "canary-secret-42"


def refusal(variables: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(variables)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert text.count(". ") == 0, "more than one sentence"
    return text


def test_nothing_set_gives_the_defaults() -> None:
    got = load_settings({})
    assert got.home == (settings.project_root() / ".rsu").resolve()
    assert (got.database_url, got.secret_keys, got.ui_port) == (None, (), 3000)
    assert got.timezone == ZoneInfo("America/New_York")
    assert got.api.base_url == "https://api.runsignup.com/rest"
    assert (got.api.registration, got.api.registration_secret) == (None, None)
    assert (got.budget.calls_per_hour, got.budget.max_in_flight, got.budget.in_flight_scope) == (1000, 2, "all")
    assert (got.sync.incremental_days, got.sync.page_size, got.sync.cursor_overlap) == (7.0, 2500, 120)


def test_an_empty_variable_counts_as_not_set() -> None:
    names = "HOME DATABASE_URL SECRET_KEY TIMEZONE UI_PORT API_BASE_URL API_REG API_REG_SECRET CALLS_PER_HOUR".split()
    assert load_settings({f"RSU_{name}": "  " for name in names}) == load_settings({})


def test_networks_of_webhooks_are_networks() -> None:
    got = load_settings({"RSU_WEBHOOK_NETWORKS": " 10.20.0.0/16, 192.168.7.9 fd00::/8 "}).webhooks
    assert [str(network) for network in got.networks] == ["10.20.0.0/16", "192.168.7.9/32", "fd00::/8"]
    for wrong in ("10.20.1.1/16", "hub.example.com", "10.0.0.0/33"):
        assert "RSU_WEBHOOK_NETWORKS has" in refusal({"RSU_WEBHOOK_NETWORKS": wrong})


def test_the_folder_of_start_lists_is_a_whole_path_and_its_format_is_known() -> None:
    got = load_settings({"RSU_START_LIST_DIR": "/srv/lists", "RSU_START_LIST_FORMAT": "raceresult"}).start_lists
    assert (str(got.folder), got.kind) == ("/srv/lists", "raceresult")
    assert load_settings({}).start_lists.folder is None
    assert "RSU_START_LIST_DIR is 'lists'" in refusal({"RSU_START_LIST_DIR": "lists"})
    assert "RSU_START_LIST_FORMAT is 'xml'" in refusal({"RSU_START_LIST_FORMAT": "xml"})


def test_the_environment_is_read_when_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSU_UI_PORT", "3100")
    assert load_settings().ui_port == 3100


NUMBERS: list[tuple[str, Callable[[Settings], Any], bool, float, float]] = [
    ("RSU_UI_PORT", lambda s: s.ui_port, True, 1, 65535),
    ("RSU_CONNECT_TIMEOUT", lambda s: s.api.connect_timeout, False, 0.1, 600),
    ("RSU_READ_TIMEOUT", lambda s: s.api.read_timeout, False, 0.1, 3600),
    ("RSU_TOTAL_TIMEOUT", lambda s: s.api.total_timeout, False, 0.1, 3600),
    ("RSU_RACE_DAY_TIMEOUT", lambda s: s.api.race_day_timeout, False, 1, 3600),
    ("RSU_CALL_ATTEMPTS", lambda s: s.api.attempts, True, 1, 20),
    ("RSU_CALL_BACKOFF", lambda s: s.api.backoff, False, 0, 600),
    ("RSU_CALLS_PER_HOUR", lambda s: s.budget.calls_per_hour, True, 1, 1_000_000),
    ("RSU_MAX_IN_FLIGHT", lambda s: s.budget.max_in_flight, True, 1, 100),
    ("RSU_RACE_DETAIL_HOURS", lambda s: s.sync.race_detail_hours, False, 1, 8760),
    ("RSU_INCREMENTAL_DAYS", lambda s: s.sync.incremental_days, False, 0, 3650),
    ("RSU_PAGE_SIZE", lambda s: s.sync.page_size, True, 1, 2500),
    ("RSU_CURSOR_OVERLAP", lambda s: s.sync.cursor_overlap, True, 10, 86400),
    ("RSU_MAX_CLOCK_SKEW", lambda s: s.sync.max_clock_skew, False, 10, 300),
    ("RSU_MASS_REMOVAL_SHARE", lambda s: s.sync.mass_removal_share, False, 0, 1),
    ("RSU_FULL_READ_UP_TO_ROWS", lambda s: s.sync.full_read_up_to_rows, True, 0, 10_000_000),
    ("RSU_EVENT_HOURS", lambda s: s.sync.event_hours, False, 1, 72),
    ("RSU_INTERVAL_LATER", lambda s: s.cadence.later, False, 60, 604_800),
    ("RSU_INTERVAL_DAY", lambda s: s.cadence.day, False, 60, 86_400),
    ("RSU_INTERVAL_WINDOW", lambda s: s.cadence.window, False, 60, 86_400),
    ("RSU_INTERVAL_AFTER_FAILURE", lambda s: s.cadence.after_failure, False, 60, 86_400),
    ("RSU_WATCH_INTERVAL", lambda s: s.watch.interval, False, 1, 3_600),
    ("RSU_WATCH_REMOVED_EVERY", lambda s: s.watch.removed_every, True, 1, 1_000),
    ("RSU_WATCH_EVENTS", lambda s: s.watch.refresh_seconds, False, 1, 86_400),
    ("RSU_WATCH_SLICE", lambda s: s.watch.slice_seconds, False, 10, 7_200),
    ("RSU_WATCH_SHARDS", lambda s: s.watch.shards, True, 1, 100),
    ("RSU_HISTORY_SLICE", lambda s: s.history.slice_seconds, False, 1, 3_000),
    ("RSU_CONTACT_RETENTION_DAYS", lambda s: s.privacy.contact_days, True, 0, 36_500),
    ("RSU_BACKUP_DAYS", lambda s: s.backup.days, True, 1, 3_650),
]


def test_every_number_that_is_declared_is_tested() -> None:
    declared = [one for group in (Settings, *GROUPS.values()) for one in declared_settings(group).values()]
    parsers = (setting_values.parse_number, setting_values.parse_integer)
    numbers = {one.variable for one in declared if isinstance(one.parse, partial) and one.parse.func in parsers}
    assert numbers == {name for name, *_ in NUMBERS}


@pytest.mark.parametrize(("name", "of", "whole", "low", "high"), NUMBERS)
def test_a_number_is_taken_within_its_bounds_and_refused_outside(
    name: str, of: Callable[[Settings], Any], whole: bool, low: float, high: float
) -> None:
    for value in (low, high):
        got = of(load_settings({name: f" {value} "}))
        assert got == value
        assert isinstance(got, int) == whole
    bad = ["many", "1,000", "--5", "0x10", "1 2", "nan", "inf", "-inf", "1e400", str(low - 1), str(high * 2 + 1), "٣x"]
    for text in bad + (["1.5", "10.25"] if whole else []):
        said = refusal({name: text})
        assert said.startswith(f"{name} is ")
        assert f"{low:g}" in said or str(low) in said


def test_included_fields_are_named_and_unknown_ones_refused() -> None:
    assert load_settings({"RSU_INCLUDE": " corrals, questions"}).sync.include == ("questions", "corrals")
    assert load_settings({"RSU_INCLUDE": "none"}).sync.include == ()
    assert len(load_settings({"RSU_INCLUDE": "all"}).sync.include) == 9
    assert refusal({"RSU_INCLUDE": "corrals,shoes"}).startswith("RSU_INCLUDE names 'shoes', but must be all, none or")


@pytest.mark.parametrize("name", ["UTC", "America/Chicago", "Europe/Paris"])
def test_a_time_zone_is_found_by_its_name(name: str) -> None:
    assert load_settings({"RSU_TIMEZONE": name}).timezone == ZoneInfo(name)


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", "EST5EDTX", "America", "x" * 500, "é"]
)
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    assert "RSU_TIMEZONE" in refusal({"RSU_TIMEZONE": name})


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://api.runsignup.com/rest", "https://api.runsignup.com/rest"),
        ("https://runsignup.com/Rest/", "https://runsignup.com/Rest"),
        ("HTTPS://test.runsignup.com:8443/Rest", "HTTPS://test.runsignup.com:8443/Rest"),
        ("http://127.0.0.1:8080/Rest", "http://127.0.0.1:8080/Rest"),
        ("http://localhost/Rest", "http://localhost/Rest"),
        ("http://[::1]:9/Rest", "http://[::1]:9/Rest"),
    ],
)
def test_a_plain_address_of_the_api_is_taken(given_url: str, kept: str) -> None:
    assert load_settings({"RSU_API_BASE_URL": given_url}).api.base_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://api.runsignup.com/rest",
        "http://127.0.0.1.example.test/rest",
        "http://localhost.example.test",
        "http://10.0.0.1/rest",
        "http://[::2]/rest",
        "HTTP://runsignup.com/Rest",
    ],
)
def test_http_is_refused_except_to_this_machine(url: str) -> None:
    said = refusal({"RSU_API_BASE_URL": url})
    assert "RSU_API_BASE_URL" in said
    assert "https://" in said


@pytest.mark.parametrize(
    "url",
    [
        "api.runsignup.com/rest",
        "ftp://api.runsignup.com",
        "file:///etc/passwd",
        "https://",
        "https:///rest",
        "https://[::1",
        "https://host:port/rest",
        "https://host:99999/rest",
        "https://host:0/rest",
        "https://ho st/rest",
        "https://host/re\nst",
        f"https://user:{SECRET}@host/rest",
        f"https://:{SECRET}@host/rest",
        f"https://{SECRET}@host/rest",
        f"https://host/rest?api_secret={SECRET}",
        f"https://host/rest#{SECRET}",
        "https://host/rest?",
    ],
)
def test_any_other_address_is_refused_without_being_repeated(url: str) -> None:
    said = refusal({"RSU_API_BASE_URL": url})
    assert "RSU_API_BASE_URL" in said
    assert SECRET not in said


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_database_address_gets_the_long_scheme(scheme: str) -> None:
    assert (
        load_settings({"RSU_DATABASE_URL": f"{scheme}://u:p@h:5432/hub"}).database_url == "postgresql://u:p@h:5432/hub"
    )


@pytest.mark.parametrize("url", [f"mysql://u:{SECRET}@h/hub", f"host=h password={SECRET}", SECRET, "postgresql:/h/hub"])
def test_another_database_is_refused_without_its_password(url: str) -> None:
    said = refusal({"RSU_DATABASE_URL": url})
    assert "RSU_DATABASE_URL" in said
    assert SECRET not in said


def test_the_registration_is_taken_whole_or_not_at_all() -> None:
    got = load_settings({"RSU_API_REG": "12.token", "RSU_API_REG_SECRET": SECRET}).api
    assert (got.registration, got.registration_secret) == ("12.token", SECRET)
    for name, value in (("RSU_API_REG", f"12.{SECRET}"), ("RSU_API_REG_SECRET", SECRET)):
        said = refusal({name: value})
        assert "RSU_API_REG " in said or "RSU_API_REG:" in said
        assert "RSU_API_REG_SECRET" in said
        assert SECRET not in said


def test_several_secret_keys_are_taken_in_order() -> None:
    assert load_settings({"RSU_SECRET_KEY": " new , old,, "}).secret_keys == ("new", "old")


@pytest.mark.parametrize("scope", ["all", "credential"])
def test_the_scope_of_the_calls_in_flight_is_a_word(scope: str) -> None:
    assert load_settings({"RSU_IN_FLIGHT_SCOPE": scope}).budget.in_flight_scope == scope


@pytest.mark.parametrize("scope", ["ALL", "partner", "1"])
def test_another_scope_is_refused(scope: str) -> None:
    assert "RSU_IN_FLIGHT_SCOPE" in refusal({"RSU_IN_FLIGHT_SCOPE": scope})


def test_home_is_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"RSU_HOME": "here/../there"}).home == tmp_path / "there"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings({"RSU_HOME": "~/hub"}).home == tmp_path / "hub"


@pytest.mark.parametrize("home", ["~no-such-user-of-this-machine/hub", "a\0b"])
def test_a_home_that_cannot_be_is_refused(home: str) -> None:
    assert "RSU_HOME" in refusal({"RSU_HOME": home})


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", ()),
        (" json://a ", ("json://a",)),
        ("json://a,slack://b/c", ("json://a", "slack://b/c")),
        ("json://a slack://b/c\n mailto://x:y@z", ("json://a", "slack://b/c", "mailto://x:y@z")),
        ("json://a , slack://b/c,", ("json://a", "slack://b/c")),
        ("mailto://x:y@z?to=a@b,c@d, json://e", ("mailto://x:y@z?to=a@b,c@d", "json://e")),
    ],
)
def test_addresses_of_notifiers_stand_between_commas_or_blanks(text: str, urls: tuple[str, ...]) -> None:
    assert load_settings({"RSU_ALERT_URLS": text}).alerts.urls == urls


@pytest.mark.parametrize(
    "text", [SECRET, f"json://a {SECRET}", f"json:/{SECRET}", f"://{SECRET}", f"{SECRET}, json://a"]
)
def test_an_address_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    said = refusal({"RSU_ALERT_URLS": text})
    assert "RSU_ALERT_URLS" in said
    assert SECRET not in said


def test_links_lead_to_the_web_ui() -> None:
    assert load_settings({}).alerts.link == "http://127.0.0.1:3000"
    assert load_settings({"RSU_UI_PORT": "3100"}).alerts.link == "http://127.0.0.1:3100"
    assert load_settings({"RSU_ALERT_LINK": "https://hub.example.com/ui/"}).alerts.link == "https://hub.example.com/ui"


@pytest.mark.parametrize(
    "link", ["hub", "ftp://hub", f"https://u:{SECRET}@hub", f"https://hub?{SECRET}", "https://hub:0"]
)
def test_a_link_that_leads_nowhere_is_refused(link: str) -> None:
    said = refusal({"RSU_ALERT_LINK": link})
    assert "RSU_ALERT_LINK" in said
    assert SECRET not in said


def test_settings_show_no_secret() -> None:
    got = load_settings(
        {
            "RSU_DATABASE_URL": f"postgresql://u:{SECRET}@h/hub",
            "RSU_SECRET_KEY": SECRET,
            "RSU_API_REG": f"12.{SECRET}",
            "RSU_API_REG_SECRET": SECRET,
            "RSU_ALERT_URLS": f"slack://{SECRET}/b/c",
        }
    )
    assert got.alerts.urls == (f"slack://{SECRET}/b/c",)
    assert got.database_url is not None
    assert SECRET in got.database_url
    for shown in (repr(got), str(got), repr(got.api), repr(got.alerts), f"{got.budget}{got.sync}"):
        assert SECRET not in shown


NAMES = [name for name, *_ in NUMBERS] + [
    f"RSU_{name}"
    for name in "HOME DATABASE_URL SECRET_KEY TIMEZONE API_BASE_URL API_REG IN_FLIGHT_SCOPE ALERT_URLS ALERT_LINK".split()
]


@given(st.sampled_from(NAMES), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30))
def test_whatever_a_variable_holds_it_is_taken_or_refused_by_name(name: str, text: str) -> None:
    try:
        load_settings({name: text})
    except SettingsError as error:
        assert name in str(error)


def test_names_of_the_web_ui_become_origins() -> None:
    text = "hub.example.com, Hub.Example.org:8443 http://hub.internal:80,https://x:443,[::1]:8443,"
    assert load_settings({"RSU_UI_HOSTS": text}).ui.origins == (
        "https://hub.example.com",
        "https://hub.example.org:8443",
        "http://hub.internal",
        "https://x",
        "https://[::1]:8443",
    )


@pytest.mark.parametrize("text", ["*", "*.example.com", "https://hub.example.com/", "ftp://x", "a:b", "a@b", "-x"])
def test_a_name_of_the_web_ui_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="RSU_UI_HOSTS must be a list of names"):
        load_settings({"RSU_UI_HOSTS": text})


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "::", "hub.example.com"])  # noqa: S104
def test_an_address_that_others_reach_is_refused_unless_it_is_behind_a_proxy(address: str) -> None:
    for open_ui in (load_settings({}).ui, load_settings({"RSU_UI_BEHIND_PROXY": "no"}).ui):
        with pytest.raises(SettingsError, match=r"no login.*deploy/proxy/nginx.conf.*SSH tunnel.*docs/security.md"):
            open_ui.check_address(address)
    load_settings({"RSU_UI_BEHIND_PROXY": "yes"}).ui.check_address(address)


def test_loopback_needs_no_proxy() -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        load_settings({}).ui.check_address(address)


def test_an_address_or_an_answer_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="RSU_UI_ADDRESS must be an IP address"):
        load_settings({"RSU_UI_ADDRESS": "hub"})
    with pytest.raises(SettingsError, match=r"RSU_UI_BEHIND_PROXY is 'perhaps', but must be 'yes' or 'no'."):
        load_settings({"RSU_UI_BEHIND_PROXY": "perhaps"})


def test_this_machine_finds_the_web_ui_wherever_it_listens() -> None:
    for address, url in (
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),  # noqa: S104
        ("192.168.1.5", "http://192.168.1.5:3000"),
        ("::1", "http://[::1]:3000"),
    ):
        assert load_settings({"RSU_UI_ADDRESS": address}).ui_url == url
