"""The comparison of the optional fields of registrations with the sandbox's truth."""

import datetime as dt
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from rsu_pipeline_tests.hub import Hub


def optional(hub: Hub, partner: int = 1, event_ids: Collection[int] | None = None) -> dict[int, dict[str, Any]]:
    """Return RunSignup's optional members by registration id, of these events or of all."""
    rows = hub.sandbox.admin.truth(partner, optional=True)["active"]
    return {
        row["registration_id"]: row["_optional"] for row in rows if event_ids is None or row["event_id"] in event_ids
    }


def assert_included(hub: Hub, partner: int = 1) -> None:
    """Assert that columns and views have what RunSignup has, derived here and not by the code under test.

    Of upcoming events.
    """
    upcoming = {
        row["event_id"] for row in hub.rows("SELECT event_id FROM future_events WHERE timing_partner_id = %s", partner)
    }
    truth = optional(hub, partner, upcoming)
    stored = {
        row["registration_id"]: row
        for row in hub.rows(
            "SELECT p.* FROM runsignup_participants p JOIN future_events f USING (timing_partner_id, event_id)"
            " WHERE p.timing_partner_id = %s AND p.removed_at IS NULL",
            partner,
        )
    }
    assert stored.keys() == truth.keys()
    for key, sent in truth.items():
        row, corral, coupon = stored[key], sent["corral"] or {}, sent["coupon_details"] or {}
        assert (row["corral"], row["wave"]) == (corral.get("corral_name"), corral.get("wave_name"))
        assert row["estimated_finish"] == _interval(sent["est_finish_time"])
        assert row["checked_in_at"] == _instant(sent["checkin_ts"])
        assert row["coupon_code"] == coupon.get("coupon_code")
        assert row["coupon_discount"] == _money(coupon.get("coupon_discount"))
        assert (row["corporate_team"], row["registration_notes"]) == (
            sent["corp_team_name"],
            sent["registration_notes"],
        )
    answers = [
        (key, one["question_id"], one["question_text"], answer)
        for key, sent in sorted(truth.items())
        for one in sent["question_responses"]
        for answer in one.get("responses") or [one.get("response")]
    ]
    assert view(hub, "answers", "question_id, question, answer", partner) == answers
    addons = [
        (key, one["addon_id"], one["addon_name"], Decimal(one["quantity"]), _money(one["amount"]))
        for key, sent in sorted(truth.items())
        for one in sent["participant_addons"]
    ]
    assert view(hub, "addons", "addon_id, addon, quantity, amount", partner) == addons
    memberships = [
        (
            key,
            one["membership_setting_id"],
            one["membership_name"],
            one["member_number"],
            dt.date.fromisoformat(one["expiration_date"]),
            _money(one["price_adjustment"]),
        )
        for key, sent in sorted(truth.items())
        for one in sent["memberships"]
    ]
    columns = "membership_id, membership, member_number, expires_on, price_adjustment"
    assert view(hub, "memberships", columns, partner) == memberships


def view(hub: Hub, name: str, columns: str, partner: int) -> list[tuple[Any, ...]]:
    """Return registration id and columns of the view of that name, of active registrations of upcoming events."""
    rows = hub.rows(
        f"SELECT v.registration_id, {columns} FROM participant_{name} v JOIN future_events f USING (timing_partner_id, event_id)"
        " WHERE v.timing_partner_id = %s AND v.removed_at IS NULL ORDER BY v.registration_id, v.position",
        partner,
    )
    return [tuple(row.values()) for row in rows]


def _interval(text: str | None) -> dt.timedelta | None:
    if text is None:
        return None
    hours, minutes, seconds = map(int, text.split(":"))
    return dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _instant(stamp: int | None) -> dt.datetime | None:
    return None if stamp is None else dt.datetime.fromtimestamp(stamp, dt.UTC)


def _money(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text.replace("$", ""))
