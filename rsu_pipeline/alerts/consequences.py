"""Leave out problems that another problem explains, so that one cause is one alert.

A problem is left out only if what it reports would not be there without the other one. Whatever has a cause of its own stays.
"""

import datetime as dt
from collections.abc import Collection, Sequence

from rsu_pipeline.alerts import automation_rules
from rsu_pipeline.alerts.alert_store import Problem

RECOVERY = dt.timedelta(minutes=20)
"""After an outage of RunSignup: what failed in it is due again within 15 min, and read within some more."""


def drop_consequences(found: Sequence[Problem], recovering: Collection[str] = ()) -> list[Problem]:
    """Return the problems without those that another problem explains.

    While the credential of a partner is rejected, its runs fail, and its first sync and its backfill do not happen. No first sync
    and no slice of a backfill is launched while the sensor that launches it, or the whole daemon, has stopped. While polls of a
    race fail, syncs of it fail too, and the partner is stale. The same holds for a partner's other races and its listing if it is
    RunSignup that does not answer, and for a partner without such a race whose syncs fail.

    The partners that are `recovering` had such a race less than RECOVERY ago. What failed meanwhile was not tried again yet.
    """
    explained = _of_rejected_credentials(found) | _of_stopped_automation(found) | _of_failing_reads(found, recovering)
    return [problem for problem in found if problem.cause not in explained]


def _of_rejected_credentials(found: Sequence[Problem]) -> set[tuple[str, str]]:
    rejections = [problem for problem in found if problem.kind == "credential_rejected"]
    partners, ids = {problem.partner for problem in rejections}, {problem.key for problem in rejections}
    return {
        problem.cause
        for problem in found
        if (problem.kind == "run_failed" and problem.partner is not None and problem.partner in partners)
        or (problem.kind in ("never_synced", "backfill_stopped") and problem.key in ids)
    }


def _of_stopped_automation(found: Sequence[Problem]) -> set[tuple[str, str]]:
    launchers = {"never_synced": "new_credentials", "backfill_stopped": "history"}
    stopped = {
        problem.key for problem in found if problem.kind in (automation_rules.KIND, automation_rules.DAEMON_KIND)
    }
    return {
        problem.cause
        for problem in found
        if problem.kind in launchers and stopped & {launchers[problem.kind], "daemon"}
    }


def _of_failing_reads(found: Sequence[Problem], recovering: Collection[str]) -> set[tuple[str, str]]:
    polls = [problem for problem in found if problem.kind == "polls_failing"]
    failing = {(problem.partner, race_id) for problem in polls for race_id in problem.races}
    unanswered = {problem.partner for problem in polls if problem.is_at_runsignup}.union(recovering)
    syncs = {problem.partner for problem in found if problem.kind == "run_failed" and problem.is_at_runsignup}

    def is_explained(problem: Problem) -> bool:
        if problem.kind not in ("run_failed", "partner_stale"):
            return False
        if problem.races and all((problem.partner, race_id) in failing for race_id in problem.races):
            return True
        partners = unanswered | syncs if problem.kind == "partner_stale" else unanswered
        return problem.is_at_runsignup and problem.partner in partners

    return {problem.cause for problem in found if is_explained(problem)}
