"""A registration that is stored exactly as it came is not staged again. Nothing else counts as such."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from rsu_pipeline.sync import registration_rows
from rsu_pipeline.warehouse import cursors, database, participants, reconciliation
from rsu_pipeline.warehouse.registration_columns import CONTENT, INCLUDED
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=15)


class Staged:
    """How many registrations were staged since it was last asked."""

    def __init__(self) -> None:
        self._lines = 0

    def count(self, lines: int) -> None:
        self._lines += lines

    def __call__(self) -> int:
        lines, self._lines = self._lines, 0
        return lines


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Staged]:
    counted, stage_and = Staged(), participants.stage_and

    def counting(conn: Any, lines: Any, merge: str, params: Any, **more: Any) -> Any:
        counted.count(len(lines))
        return stage_and(conn, lines, merge, params, **more)

    monkeypatch.setattr(participants, "stage_and", counting)
    yield counted


@pytest.fixture
def hub(make_hub: Callable[..., Hub], staged: Staged) -> Hub:
    """Provide a hub that has read everything once, which staged every registration."""
    made = make_hub(spec=SPEC, seed=7)
    made.sync()
    assert staged() == 30
    return made


def keys(hub: Hub) -> list[int]:
    return sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])


def read_in_full(hub: Hub) -> Any:
    """Read in full, after which copy and RunSignup are equal, and proved so."""
    outcome = hub.sync(full=True)
    assert outcome.failures == [] and outcome.unequal_events == []
    proofs = hub.rows("SELECT read_rows, stored_rows, read_hash = stored_hash AS same FROM event_cursors")
    assert [(row["read_rows"], row["stored_rows"], row["same"]) for row in proofs] == [
        (proof["read_rows"], proof["read_rows"], True) for proof in proofs
    ]
    hub.assert_equal()
    return outcome


@pytest.mark.parametrize("page_size", ["2500", "4"])
def test_nothing_changed_stages_nothing_and_is_proved_equal_all_the_same(
    hub: Hub, staged: Staged, page_size: str
) -> None:
    hub.environment["RSU_PAGE_SIZE"] = page_size
    before = hub.rows("SELECT * FROM runsignup_participants ORDER BY id")
    counts = read_in_full(hub).counts
    assert staged() == 0
    assert (counts.read, counts.unchanged, counts.is_unchanged) == (30, 30, True)
    assert hub.rows("SELECT * FROM runsignup_participants ORDER BY id") == before
    assert hub.value("SELECT sum(read_rows) FROM event_cursors") == 30


def test_only_what_changed_is_staged(hub: Hub, staged: Staged) -> None:
    changed, gone, *_ = keys(hub)
    hub.sandbox.admin.bib(changed, 777)
    hub.sandbox.admin.remove(gone, "cleared")
    counts = read_in_full(hub).counts
    assert (counts.updated, counts.bib_changes, counts.removed, counts.unchanged) == (1, 1, 1, 28)
    assert staged() == 2, "the one that changed, and the removed one from its own feed"
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NOT NULL") == 1


@pytest.mark.parametrize(
    "alteration",
    [
        "first_name = 'Somebody Else'",
        "bib_num = '999999'",
        "race_id = 1",
        "payload = payload::jsonb - 'age'",
        "address = NULL",
        "removed_at = now(), removed_reason = 'missing_upstream'",
        "seal = seal + 1",
        "seal = NULL",
    ],
)
def test_a_row_altered_here_does_not_pass_for_what_was_sent(hub: Hub, staged: Staged, alteration: str) -> None:
    hub.execute(f"UPDATE runsignup_participants SET {alteration} WHERE registration_id = %s", keys(hub)[3])
    read_in_full(hub)
    assert staged() == 1
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL AND seal IS NOT NULL") == 30
    read_in_full(hub)
    assert staged() == 0


def test_a_row_that_is_lost_here_comes_again(hub: Hub, staged: Staged) -> None:
    hub.execute("DELETE FROM runsignup_participants WHERE registration_id = %s", keys(hub)[3])
    assert read_in_full(hub).counts.inserted == 1
    assert staged() == 1


def test_a_row_without_a_seal_gets_one_and_counts_as_unchanged(hub: Hub, staged: Staged) -> None:
    everything_else = "SELECT to_jsonb(p) - 'seal' AS row FROM runsignup_participants p ORDER BY id"
    hub.execute("UPDATE runsignup_participants SET seal = NULL")
    before = hub.rows(everything_else)
    counts = read_in_full(hub).counts
    assert (staged(), counts.unchanged) == (30, 30)
    assert hub.rows(everything_else) == before
    read_in_full(hub)
    assert staged() == 0


def test_an_incremental_read_seals_what_it_brings(hub: Hub, staged: Staged) -> None:
    hub.sandbox.admin.bib(keys(hub)[5], 4711)
    assert hub.sync().counts.bib_changes == 1
    assert staged() == 1
    read_in_full(hub)
    assert staged() == 0


def test_rows_read_by_other_rules_are_staged_again(hub: Hub, staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration_rows, "RULES", b"other")
    read_in_full(hub)
    assert staged() == 30


def test_a_row_with_field_errors_is_recognised_and_counted_again_at_each_read(hub: Hub, staged: Staged) -> None:
    hub.sandbox.admin.edit(keys(hub)[4], {"dob": "1990-02-31"})
    noted = "SELECT last_seen_at FROM quarantined_rows WHERE resolved_at IS NULL"
    seen: list[object] = []
    for staged_now in (1, 0, 0):
        outcome = hub.sync(full=True)
        counts = outcome.counts
        assert outcome.unequal_events == []
        assert (staged(), counts.read, counts.with_faults, counts.is_unchanged) == (staged_now, 30, 1, False)
        seen.append(hub.value(noted))
    assert sorted(set(seen)) == seen, "its errors are noted as seen again"
    hub.sandbox.admin.edit(keys(hub)[4], {"dob": "1990-02-28"})
    assert (hub.sync(full=True).counts.with_faults, staged()) == (0, 1)
    assert hub.rows(noted) == []


@pytest.mark.parametrize(
    "alteration",
    [
        "DELETE FROM quarantined_rows",
        "UPDATE quarantined_rows SET resolved_at = now()",
        "UPDATE quarantined_rows SET is_stored = false",
        "UPDATE runsignup_participants SET seal = seal # 1",
        "UPDATE runsignup_participants SET seal = NULL",
        "UPDATE runsignup_participants SET last_name = 'Somebody Else'",
    ],
)
def test_a_row_whose_field_errors_are_not_known_is_staged_again(hub: Hub, staged: Staged, alteration: str) -> None:
    key = keys(hub)[4]
    hub.sandbox.admin.edit(key, {"dob": "1990-02-31"})
    hub.sync(full=True)
    staged()
    hub.execute(f"{alteration} WHERE registration_id = %s", key)
    assert (hub.sync(full=True).counts.with_faults, staged()) == (1, 1)
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE is_stored AND resolved_at IS NULL") == 1


def test_a_version_held_back_is_settled_when_the_one_before_it_comes_again(hub: Hub, staged: Staged) -> None:
    key = keys(hub)[4]
    (truth,) = [row for row in hub.sandbox.admin.truth(1)["active"] if row["registration_id"] == key]
    hub.sandbox.admin.edit(key, {"event_id": 4})
    assert hub.sync(full=True).counts.quarantined == 1
    hub.sandbox.admin.edit(key, {"event_id": truth["event_id"], "last_modified": truth["last_modified"]})
    staged()
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE resolved_at IS NULL") == 1
    read_in_full(hub)
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE resolved_at IS NULL") == 0


def test_a_pass_cut_off_and_resumed_counts_each_row_once(hub: Hub, staged: Staged) -> None:
    hub.environment |= {"RSU_PAGE_SIZE": "4", "RSU_CALL_ATTEMPTS": "1"}
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", after_page=True)
    assert hub.sync(full=True).failures
    assert hub.value("SELECT pages FROM read_passes") == 1
    assert read_in_full(hub).reads[0].is_resumed
    assert staged() == 0


def test_a_race_has_to_be_the_partners_before_it_is_read(hub: Hub) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        hub.execute(
            "INSERT INTO read_passes (timing_partner_id, race_id, mode, event_ids) VALUES (1, 999, 'full', '{5}')"
        )


@pytest.mark.parametrize("mode", ["full", "history"])
def test_an_event_has_to_be_known_before_a_full_pass_reads_it(hub: Hub, mode: cursors.Mode) -> None:
    race = hub.value("SELECT race_id FROM partner_races")
    with database.session(hub.url, purpose="tests") as conn:
        with pytest.raises(psycopg2.errors.ForeignKeyViolation, match=r"pass_counts.*\n.*999"):
            cursors.open_pass(conn, 1, race, mode, [999], None)
        conn.rollback()
        known = hub.value("SELECT min(event_id) FROM runsignup_events")
        cursors.open_pass(conn, 1, race, mode, [known], None)
    for stays in ("pass under way", "cursor of what was read"):
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            hub.execute("DELETE FROM runsignup_events WHERE event_id = %s", known)
        if stays == "pass under way":
            hub.execute("DELETE FROM read_passes")


def test_a_payload_written_otherwise_counts_as_unchanged_and_gets_the_text_that_was_sent(
    hub: Hub, staged: Staged
) -> None:
    everything = "SELECT to_jsonb(p) AS row, payload::text AS text FROM runsignup_participants p ORDER BY id"
    before = hub.rows(everything)
    hub.execute("UPDATE runsignup_participants SET payload = payload::jsonb")
    counts = read_in_full(hub).counts
    assert (staged(), counts.unchanged, counts.updated) == (30, 30, 0)
    assert hub.rows(everything) == before
    read_in_full(hub)
    assert staged() == 0


JSONB_COLUMNS = "address team_info payment_info additional_data payload".split()
PLAIN_COLUMNS = [column.name for column in CONTENT if column not in INCLUDED and column.name not in JSONB_COLUMNS]
HASH_BEFORE_0021 = f"hashtextextended(ROW({', '.join(f't.{name}' for name in PLAIN_COLUMNS)})::text, 0)" + "".join(
    f" # coalesce(jsonb_hash_extended(t.{name}, {seed}), {seed})" for seed, name in enumerate(JSONB_COLUMNS, start=1)
)
"""SQL: a stored row's hash as programs before migration 0021 took it."""


def test_what_was_stored_before_the_payload_became_text_is_recognised_after_the_migration(
    hub: Hub, staged: Staged
) -> None:
    digest = f"seal # {reconciliation.row_hash('t')}"
    hub.execute(f"CREATE TABLE digests AS SELECT t.id, {digest} AS digest FROM runsignup_participants t")
    with database.session(hub.url, purpose="as before") as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'note_foreign_write' ORDER BY 1")
        triggers = cur.fetchall()
        # A trigger of a later migration, which an installation that is at version 20 does not have.
        cur.execute("DROP TRIGGER notify_participant ON runsignup_participants")
        cur.execute("DROP TRIGGER note_foreign_write ON runsignup_participants")
        cur.execute("ALTER TABLE runsignup_participants ALTER payload TYPE jsonb USING payload::jsonb")
        (trigger,) = [definition for (definition,) in triggers if "runsignup_participants" in definition]
        cur.execute(trigger)
        cur.execute(
            f"UPDATE runsignup_participants t SET seal = d.digest # {HASH_BEFORE_0021} FROM digests d WHERE d.id = t.id"
        )
        cur.execute("DROP TABLE digests; DELETE FROM schema_migrations WHERE version = 21")
        conn.commit()
        before = hub.rows("SELECT to_jsonb(t) - 'seal' AS row FROM runsignup_participants t ORDER BY id")
        assert "0021_payload_as_text.sql" in database.migrate(conn)
        cur.execute("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'note_foreign_write' ORDER BY 1")
        assert cur.fetchall() == triggers
    assert hub.rows("SELECT to_jsonb(t) - 'seal' AS row FROM runsignup_participants t ORDER BY id") == before
    counts = read_in_full(hub).counts
    assert (staged(), counts.unchanged) == (0, 30)


def test_a_view_of_another_program_over_the_payload_is_named_before_its_type_changes(hub: Hub) -> None:
    with database.session(hub.url, purpose="as before") as conn, conn.cursor() as cur:
        cur.execute("CREATE VIEW shirts AS SELECT payload ->> 'giveaway' AS shirt FROM runsignup_participants")
        cur.execute("DELETE FROM schema_migrations WHERE version = 21")
        conn.commit()
        with pytest.raises(
            database.DatabaseError, match=r"nothing was changed: view shirts reads .*payload.* drop it, migrate"
        ):
            database.migrate(conn)


ANSWERS_BEFORE_0031 = """
DROP TRIGGER note_foreign_write ON runsignup_participants;
ALTER TABLE runsignup_participants RENAME COLUMN answers TO now;
ALTER TABLE runsignup_participants ADD COLUMN answers jsonb;
UPDATE runsignup_participants
SET answers = now::jsonb, seal = seal # hashtextextended(now::text, 6) # jsonb_hash_extended(now::jsonb, 6)
WHERE now IS NOT NULL;
CREATE OR REPLACE VIEW participant_answers AS
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, a.position::integer AS position, a.question_id, a.question,
    a.answer, p.removed_at
FROM runsignup_participants p CROSS JOIN LATERAL ROWS FROM (
    jsonb_to_recordset(p.answers) AS (question_id bigint, question text, answer text)
) WITH ORDINALITY AS a (question_id, question, answer, position);
ALTER TABLE runsignup_participants DROP COLUMN now;
DELETE FROM schema_migrations WHERE version = 31;
"""
"""Leave the table as a program before migration 0031 did."""
ODD_ANSWERS = [
    {"question_id": 1, "question_text": 'A "quoted" \\ question\n\tof two lines\u0001?', "response": "Zoë \U0001f3c3 \\u0041"},
    {"question_id": "2", "question_text": 3, "responses": {"a": "one", "b": 2}},
    {"question_id": None, "response": None},
    {"question_id": -(2**63), "question_text": "", "response": ["x", {"y": 1.50}]},
]  # fmt: skip


def test_answers_that_were_stored_before_they_became_text_are_recognised_after_the_migration(
    make_hub: Callable[..., Hub], staged: Staged
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_INCLUDE"] = "all"
    odd, empty, none, *_ = keys(hub)
    hub.sandbox.admin.edit(odd, {"question_responses": ODD_ANSWERS})
    hub.sandbox.admin.edit(empty, {"question_responses": {}})
    hub.sandbox.admin.edit(none, {"question_responses": None})
    hub.sync()
    triggers = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'note_foreign_write' ORDER BY 1"
    everything = "SELECT to_jsonb(p) AS row, answers::text AS answers FROM runsignup_participants p ORDER BY id"
    shown = "SELECT * FROM participant_answers ORDER BY registration_id, position"
    before = [hub.rows(query) for query in (triggers, everything, shown)]
    assert staged() == 30 and len(before[2]) > 100
    with database.session(hub.url, purpose="as before") as conn, conn.cursor() as cur:
        cur.execute(triggers)
        (trigger,) = [definition for (definition,) in cur.fetchall() if "runsignup_participants" in definition]
        cur.execute(ANSWERS_BEFORE_0031)
        cur.execute(trigger)
        conn.commit()
        assert "0031_answers_as_text.sql" in database.migrate(conn)
    assert [hub.rows(query) for query in (triggers, everything, shown)] == before
    counts = read_in_full(hub).counts
    assert (staged(), counts.unchanged) == (0, 30)
    # Where a row is staged, for whatever reason, its answers do not differ either.
    hub.execute("UPDATE runsignup_participants SET seal = NULL")
    counts = read_in_full(hub).counts
    assert (staged(), counts.unchanged, counts.updated) == (30, 30, 0)


def test_a_view_of_another_program_over_the_answers_is_named_before_their_type_changes(hub: Hub) -> None:
    with database.session(hub.url, purpose="as before") as conn, conn.cursor() as cur:
        cur.execute("CREATE VIEW shirts AS SELECT answers -> 0 AS first FROM runsignup_participants")
        cur.execute("DELETE FROM schema_migrations WHERE version = 31")
        conn.commit()
        with pytest.raises(
            database.DatabaseError, match=r"nothing was changed: view shirts reads .*answers.* drop it, migrate"
        ):
            database.migrate(conn)
