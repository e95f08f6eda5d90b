"""Programs that read the older tables go on finding what they know."""

from collections.abc import Callable

from rsu_pipeline.warehouse import database, sync_log
from rsu_pipeline_tests.adoption.looking import adopt
from rsu_pipeline_tests.adoption.test_shapes import HISTORY, SHAPES
from rsu_pipeline_tests.warehouse.sessions import rows

COPIES = """
ALTER TABLE runsignup_participants ADD note text, ADD paid jsonb;
WITH pairs AS (
    SELECT o.id AS older, k.id AS newer, row_number() OVER (ORDER BY o.id) AS n
    FROM runsignup_participants o JOIN runsignup_participants k USING (timing_partner_id, registration_id)
    WHERE o.fetched_date < k.fetched_date LIMIT 2
)
UPDATE runsignup_participants p SET note = CASE WHEN p.id = a.older THEN 'vip' WHEN a.n = 2 THEN 'late' END,
    paid = CASE WHEN p.id = a.older AND a.n = 1 THEN '{"cash": 5}'::jsonb END,
    chip_num = CASE WHEN p.id = a.older AND a.n = 2 THEN 'c9' END
FROM pairs a WHERE p.id IN (a.older, a.newer)
"""


ONE = "id = (SELECT max(id) FROM runsignup_participants WHERE registration_id IS NOT NULL)"


def test_a_hand_written_value_on_an_older_copy_is_carried_over_or_reported(make_old: Callable[..., str]) -> None:
    url = make_old(COPIES)
    report = adopt(url)
    found = rows(url, "SELECT note, paid ->> 'cash' FROM runsignup_participants WHERE note IS NOT NULL ORDER BY 1, 2")
    assert found == [("late", None), ("vip", "5")]
    lines = "\n".join(report.lines())
    assert "carried over from older copies: note to 1 row and paid to 1 row" in lines
    assert "older copies have other values (adopted_rows keeps them): note in 1" in lines
    assert "values that only an older copy has, which the first sync replaces by RunSignup's" in lines
    assert report.facts.copies["chip_num"][0] == 1


def test_rows_of_this_program_fill_the_columns_of_the_other_shape_of_the_sync_log(make_old: Callable[..., str]) -> None:
    url = make_old(*HISTORY)
    assert any("fill provider_name, sync_type, records_processed" in line for line in adopt(url).lines())
    with database.session(url, purpose="tests") as conn:
        for status, reason in (("completed", "incremental read"), ("failed", "no answer")):
            sync_log.record(
                conn,
                partner_id=1,
                race_id=None,
                event_ids=[],
                operation="incremental",
                status=status,  # type: ignore[arg-type]
                reason=reason,
                run_id="r",
                seconds=60.0,
                counts={"read": 7},
            )
        conn.commit()
    assert rows(
        url,
        "SELECT provider_name, sync_type, records_processed, completed_at - started_at = interval '1 minute', error_message"
        " FROM sync_history WHERE run_id = 'r' ORDER BY id",
    ) == [("RunSignUp", "incremental", 7, True, None), ("RunSignUp", "incremental", 7, True, "no answer")]


def test_amounts_of_flat_columns_are_typed_as_a_sync_types_them(make_old: Callable[..., str]) -> None:
    url = make_old(
        *SHAPES["participants all flat"],
        "UPDATE runsignup_participants SET processing_fee = '$1,234.50', partner_fee = '-$5.00', extra_fees = 'free',"
        " amount_paid = 12.5, team_type_id = '4', giveaway_option_id = 'L'"
        f" WHERE {ONE}",
    )
    adopt(url)
    assert rows(
        url,
        "SELECT payment_info -> 'processing_fee', payment_info -> 'partner_fee', payment_info -> 'extra_fees',"
        " payment_info -> 'amount_paid', team_info -> 'team_type_id', additional_data -> 'giveaway_option_id'"
        f" FROM runsignup_participants WHERE {ONE}",
    ) == [(1234.5, -5, "free", 12.5, 4, "L")]


def test_that_removed_registrations_are_inserted_is_said(make_old: Callable[..., str]) -> None:
    assert any(
        "removed_at: who counts active ones adds WHERE removed_at IS NULL" in line for line in adopt(make_old()).lines()
    )
