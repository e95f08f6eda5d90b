"""RunSignup's payloads as typed objects, which `payload_decoding` makes.

Keys may be missing, and unknown keys stay in the raw bytes that every object keeps (as received, except for invalid
characters, see `text_repair`). A field that cannot be read is None and is named in `faults`. PHP's forms of arrays are among the
types: a list as an object with numeric keys, nothing as an empty list or text.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

DriftKind = Literal["unknown", "form", "type"]
"""As in `warehouse.schema_drift`."""
Text = str | int | float | bool | None
"""Text that some layouts send as a number."""
Time = str | int | None
"""A wall time. Some layouts send Unix seconds."""
Rows = list[Raw] | dict[int, Raw]
"""A list. PHP sends one whose numbers have gaps as an object with numeric keys."""
MaybeMoney = str | int | float | UnsetType | None
"""An amount such as `"$1,234.50"`. Null and absent are different."""


class RowUnreadable(ValueError):
    """A row whose identity cannot be read. The text names the field and the reason.

    `identity` is the row's own id if another field fails.
    """

    def __init__(self, reason: str, identity: int | None = None) -> None:
        self.identity = identity
        super().__init__(reason)


class User(msgspec.Struct, kw_only=True, gc=False):
    """The person of a registration."""

    user_id: int | None = None
    first_name: Text = None
    middle_name: Text = None
    last_name: Text = None
    email: Text = None
    address: dict[str, Any] | None = None
    dob: str | None = None
    gender: Text = None
    phone: Text = None
    profile_image_url: Text = None


class Registration(msgspec.Struct, kw_only=True, gc=False):
    """One row of `participants` or of `removed-participants`.

    `event_id` is the row's own, else its envelope's. `last_modified` is Unix seconds. `registration_date` is Eastern
    wall time. `drift` has the fields that are unknown, or whose type is another than the known one.
    """

    registration_id: int
    event_id: int | None = None
    user: User | None = None
    rsu_transaction_id: int | UnsetType | None = UNSET
    transaction_id: Text | UnsetType = UNSET
    bib_num: int | str | None = None
    chip_num: Text = None
    age: int | None = None
    registration_date: Time = None
    team_id: int | UnsetType | None = UNSET
    team_name: Text | UnsetType = UNSET
    team_type_id: int | UnsetType | None = UNSET
    team_type: Text | UnsetType = UNSET
    team_gender: Text | UnsetType = UNSET
    team_bib_num: Text | UnsetType = UNSET
    last_modified: int | str | None = None
    last_modified_ts: int | None = None
    imported: Text | UnsetType = UNSET
    race_fee: MaybeMoney = UNSET
    offline_payment_amount: MaybeMoney = UNSET
    processing_fee: MaybeMoney = UNSET
    processing_fee_paid_by_user: MaybeMoney = UNSET
    processing_fee_paid_by_race: MaybeMoney = UNSET
    partner_fee: MaybeMoney = UNSET
    affiliate_profit: MaybeMoney = UNSET
    extra_fees: MaybeMoney = UNSET
    amount_paid: MaybeMoney = UNSET
    usatf_discount_amount_in_cents: MaybeMoney = UNSET
    usatf_discount_additional_field: Text | UnsetType = UNSET
    giveaway: Text | UnsetType = UNSET
    giveaway_option_id: int | UnsetType | None = UNSET
    fundraiser_id: Text | UnsetType = UNSET
    fundraiser_charity_id: Text | UnsetType = UNSET
    fundraiser_charity_name: Text | UnsetType = UNSET
    team_fundraiser_id: Text | UnsetType = UNSET
    multi_race_bundle_id: Text | UnsetType = UNSET
    multi_race_bundle: Raw | UnsetType = UNSET
    signed_waiver_details: Raw | UnsetType = UNSET
    question_responses: Raw | UnsetType = UNSET
    participant_addons: Raw | UnsetType = UNSET
    memberships: Raw | UnsetType = UNSET
    corral: Raw | UnsetType = UNSET
    corral_name: Raw | UnsetType = UNSET
    wave: Raw | UnsetType = UNSET
    wave_name: Raw | UnsetType = UNSET
    est_finish: Raw | UnsetType = UNSET
    est_finish_time: Raw | UnsetType = UNSET
    estimated_finish: Raw | UnsetType = UNSET
    estimated_finish_time: Raw | UnsetType = UNSET
    checkin: Raw | UnsetType = UNSET
    checkin_data: Raw | UnsetType = UNSET
    checkin_time: Raw | UnsetType = UNSET
    checkin_ts: Raw | UnsetType = UNSET
    coupon: Raw | UnsetType = UNSET
    coupon_code: Raw | UnsetType = UNSET
    coupon_details: Raw | UnsetType = UNSET
    coupon_discount: Raw | UnsetType = UNSET
    corp_team: Raw | UnsetType = UNSET
    corp_team_name: Raw | UnsetType = UNSET
    registration_notes: Raw | UnsetType = UNSET
    notes: Raw | UnsetType = UNSET
    removed_reason: str | None = None
    new_registration_id: int | None = None
    raw: bytes = b""
    faults: list[str] = msgspec.field(default_factory=list)
    drift: tuple[tuple[DriftKind, str], ...] = ()


class StrictUser(User, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A person without unknown fields."""

    is_anonymous: Raw | UnsetType = UNSET


class StrictRegistration(Registration, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A registration without unknown fields, with those that are known and not read."""

    user: StrictUser | None = None
    corp_team_id: Raw | UnsetType = UNSET


class Event(msgspec.Struct, kw_only=True):
    """One event of a race. Its times are wall times in the race's zone."""

    event_id: int
    race_event_days_id: int | None = None
    name: Text = None
    details: Text = None
    start_time: Time = None
    end_time: Time = None
    age_calc_base_date: str | None = None
    registration_opens: Time = None
    event_type: Text = None
    distance: Text = None
    volunteer: Text = None
    require_dob: Text = None
    require_phone: Text = None
    giveaway: Text = None
    sub_event_ids: list[int] | dict[int, int] | str | int | None = None
    raw: bytes = b""
    faults: list[str] = msgspec.field(default_factory=list)


class Race(msgspec.Struct, kw_only=True):
    """One race.

    `last_date` … `next_end_date` are calendar dates of the race. `created` and `last_modified` are Eastern wall times to the
    minute, and refer to the race record, not to its participants.
    """

    race_id: int
    name: Text = None
    last_date: str | None = None
    last_end_date: str | None = None
    next_date: str | None = None
    next_end_date: str | None = None
    is_draft_race: Text = None
    is_private_race: Text = None
    is_registration_open: Text = None
    created: Time = None
    last_modified: Time = None
    description: Text = None
    url: Text = None
    external_race_url: Text = None
    external_results_url: Text = None
    fb_page_id: Text = None
    fb_event_id: Text = None
    address: dict[str, Any] | None = None
    timezone: str | None = None
    logo_url: Text = None
    real_time_notifications_enabled: Text = None
    events: Rows | None = None
    raw: bytes = b""
    faults: list[str] = msgspec.field(default_factory=list)


def rows_of(rows: Rows | None) -> list[Raw]:
    """Return the members of a list, in any of its forms, in the order received."""
    return list(rows.values()) if isinstance(rows, dict) else rows or []
