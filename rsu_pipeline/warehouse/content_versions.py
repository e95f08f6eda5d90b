"""Versions of what is stored of a partner: the same for as long as the content is the same.

Rows carry a time at which their content last changed, and rows that are read again unchanged are not rewritten. So these
times are the version, and no row's content is hashed.
"""

from psycopg2.extensions import connection as Connection

EVENTS = """
SELECT concat_ws(' ', l.race_id, l.access, l.lost_at IS NOT NULL, e.event_id, e.name, e.starts_at, e.ends_at, e.volunteer,
    e.is_bundle, e.gone_at IS NOT NULL) AS part
FROM partner_races l LEFT JOIN runsignup_events e USING (race_id)
WHERE l.timing_partner_id = %(partner)s
"""
"""The partner's races and events, as far as syncs and start lists depend on them."""

PLAN = """
SELECT concat_ws(' ', f.event_id, f.tier, f.next_read) AS part
FROM future_events f WHERE f.timing_partner_id = %(partner)s
"""
"""The upcoming events and their next reads, without the reason, which names an age."""

REGISTRATIONS = """
SELECT concat_ws(' ', f.event_id, max(p.changed_at), count(*) FILTER (WHERE p.removed_at IS NULL)) AS part
FROM future_events f
JOIN runsignup_participants p ON p.timing_partner_id = f.timing_partner_id AND p.event_id = f.event_id
WHERE f.timing_partner_id = %(partner)s
GROUP BY f.event_id
"""
"""The registrations of upcoming events. An index has them by event."""

START_LISTS = """
SELECT concat_ws(' ', s.event_id, s.built_at) AS part
FROM start_lists s WHERE s.timing_partner_id = %(partner)s
"""
"""The start lists. A list's time of building changes only with an entry or a figure."""

PAST_EDITIONS = """
SELECT concat_ws(' ', h.event_id, h.state, h.behind) AS part
FROM history_events h WHERE h.timing_partner_id = %(partner)s
"""
"""The past events that were read."""


def read_version(conn: Connection, content: str, partner_id: int) -> str:
    """Return the version of a partner's content, one of the constants of this module."""
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT md5(coalesce(string_agg(c.part, E'\\n' ORDER BY c.part COLLATE \"C\"), '')) FROM ({content}) c",
            {"partner": partner_id},
        )
        (version,) = cur.fetchone() or ("",)
    return str(version)
