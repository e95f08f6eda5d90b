"""What is wrong with a webhook, with files of start lists or with PostgreSQL's queue of notifications is named."""

import pytest

from rsu_pipeline.alerts import webhook_rules
from rsu_pipeline.warehouse import database, start_list_folders, webhook_store


@pytest.mark.parametrize(("share", "is_named"), [(0.0, False), (0.25, False), (0.26, True)])
def test_a_queue_of_notifications_that_fills_up_is_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch, share: float, is_named: bool
) -> None:
    with database.session(database_url, purpose="tests") as conn:
        assert webhook_store.read_queue_share(conn) == 0.0
        monkeypatch.setattr(webhook_store, "read_queue_share", lambda conn: share)
        found = list(webhook_rules.find_problems_of_delivery(conn))
    assert [problem.kind for problem in found] == (["notification_queue"] if is_named else [])


def sentences(url: str) -> list[str]:
    with database.session(url, purpose="tests") as conn:
        return [
            problem.sentence
            for problem in webhook_rules.find_problems_of_delivery(conn)
            if problem.kind == "list_files_failing"
        ]


def test_files_of_start_lists_that_are_old_are_named_with_folder_and_machine(database_url: str) -> None:
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        for folder in ("/srv/lists", "/srv/other"):
            start_list_folders.record(conn, folder, "timing-1:77", None)
        start_list_folders.record(conn, "/srv/lists", "timing-1:77", "[Errno 28] No space left on device")
        conn.commit()
        assert sentences(database_url) == []
        cur.execute("UPDATE start_list_folders SET failing_since = failing_since - interval '61 seconds'")
        conn.commit()
        # It goes on failing, and since then.
        start_list_folders.record(conn, "/srv/lists", "timing-1:77", "[Errno 28] No space left on device")
        conn.commit()
        (sentence,) = sentences(database_url)
        assert "in /srv/lists on timing-1 have not all been written since" in sentence and "No space left" in sentence
        start_list_folders.record(conn, "/srv/lists", "timing-1:77", None)
        conn.commit()
        assert sentences(database_url) == []


def test_a_folder_that_its_process_left_without_notice_is_named_until_another_keeps_it(database_url: str) -> None:
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        start_list_folders.record(conn, "/srv/lists", "timing-1:77", None)
        cur.execute("UPDATE start_list_folders SET kept_at = kept_at - interval '61 seconds'")
        conn.commit()
        (sentence,) = sentences(database_url)
        assert sentence.startswith(
            "No process has kept the files of start lists in /srv/lists on timing-1 current for 61 s"
        )
        start_list_folders.take_over(conn, "/srv/lists")
        start_list_folders.record(conn, "/srv/lists", "timing-2:9", None)
        conn.commit()
        assert sentences(database_url) == [] and len(start_list_folders.read_folders(conn)) == 1
        start_list_folders.forget(conn, "/srv/lists", "timing-2:9")
        assert start_list_folders.read_folders(conn) == []


def test_a_machine_that_fails_is_named_though_another_keeps_a_folder_of_the_same_path(database_url: str) -> None:
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        start_list_folders.record(conn, "/srv/lists", "timing-1:77", "[Errno 28] No space left on device")
        cur.execute("UPDATE start_list_folders SET failing_since = failing_since - interval '61 seconds'")
        for _ in range(2):
            start_list_folders.record(conn, "/srv/lists", "timing-2:9", None)
            start_list_folders.record(conn, "/srv/lists", "timing-1:77", "[Errno 28] No space left on device")
        conn.commit()
        (sentence,) = sentences(database_url)
        assert "in /srv/lists on timing-1 have not all been written since" in sentence
        # Both fail: each has an alert of its own.
        start_list_folders.record(conn, "/srv/lists", "timing-2:9", "[Errno 30] Read-only file system")
        cur.execute("UPDATE start_list_folders SET failing_since = failing_since - interval '61 seconds'")
        conn.commit()
        problems = [p for p in webhook_rules.find_problems_of_delivery(conn) if p.kind == "list_files_failing"]
        assert len({problem.key for problem in problems}) == 2
        start_list_folders.forget(conn, "/srv/lists", "timing-1:77")
        assert [kept.machine for kept in start_list_folders.read_folders(conn)] == ["timing-2:9"]


def test_a_folder_that_several_processes_of_one_machine_keep_is_judged_once(database_url: str) -> None:
    with database.session(database_url, purpose="tests") as conn, conn.cursor() as cur:
        for machine in ("timing-1:7", "timing-1:9"):
            start_list_folders.record(conn, "/srv/lists", machine, "[Errno 28] No space left on device")
        cur.execute("UPDATE start_list_folders SET failing_since = failing_since - interval '61 seconds'")
        conn.commit()
        assert len(sentences(database_url)) == 1
        # One is gone without notice, and the other keeps the files current.
        cur.execute("UPDATE start_list_folders SET kept_at = kept_at - interval '1 hour' WHERE machine = 'timing-1:7'")
        start_list_folders.record(conn, "/srv/lists", "timing-1:9", None)
        conn.commit()
        assert sentences(database_url) == []
