"""The optional fields of a registration, by the names of the setting RSU_INCLUDE.

RunSignup sends each group only if it is requested with a flag. A page with more of them has more bytes and costs no more calls.
"""

from collections.abc import Sequence

FLAGS = {
    "questions": "include_questions",
    "addons": "include_registration_addons",
    "memberships": "include_memberships",
    "corrals": "include_corrals",
    "est_finish": "include_est_finish",
    "checkin": "include_checkin_data",
    "coupons": "include_coupon_details",
    "corp_teams": "include_corp_teams",
    "notes": "include_registration_notes",
}
"""Parameter of the participants call, by name of the group."""
DEFAULT: tuple[str, ...] = ()
ALL, NONE = "all", "none"


def parse_include(text: str) -> tuple[str, ...]:
    """Return the groups of a list such as `questions,corrals`, in the order of FLAGS, or those of `all` or `none`.

    Raises:
        ValueError: a name is unknown. The text is the name.
    """
    names = {part.strip().lower() for part in text.split(",") if part.strip()}
    if names == {ALL}:
        return tuple(FLAGS)
    if names == {NONE}:
        return ()
    if unknown := sorted(names - FLAGS.keys()):
        raise ValueError(unknown[0])
    return tuple(name for name in FLAGS if name in names)


def format_include(names: Sequence[str]) -> str:
    """Return the groups as text that `parse_include` reads."""
    return ",".join(names) or NONE
