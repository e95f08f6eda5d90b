"""How the tests that break a rule find a program that notices it: at pinned programs, and by a search for new ones.

A pinned program ages when steps of its machine or calls of the hub change: it then does something else. Each mutant has
several, tried in order. When all have aged the test fails within minutes and names the command that searches for new ones.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence

import pytest

# Read at import: the tests themselves run with a clean environment.
SEARCHED = int(os.environ.get("RSU_PROOF_SEARCH", "0"))
"""How many candidates are tried instead of the pinned ones. 0: the pinned ones are."""
TIMEOUT = 7200 if SEARCHED else 600
"""Seconds that a test may take."""
ENOUGH = 3
"""Candidates of a mutant that a search finds."""

Mutant = Callable[[pytest.MonkeyPatch], None]
Run = Callable[[int], None]
"""Runs the programs of a candidate, which is a seed or the number of a program."""


def find(mutant: Mutant, run: Run, pinned: Sequence[int], message: str, fresh: Iterable[int], test: str) -> None:
    """Have a pinned candidate find what is broken, or search for new ones if RSU_PROOF_SEARCH is set.

    Args:
        mutant: breaks a rule.
        run: runs the programs of a candidate.
        pinned: candidates that are known to find it.
        message: what the failure must have, a regular expression.
        fresh: candidates for a search.
        test: the test's id, for the command in the message.
    """
    if SEARCHED:
        search(mutant, run, message, itertools.islice(fresh, SEARCHED))
        return
    for candidate in pinned:
        began = time.monotonic()
        if is_found(mutant, run, message, candidate):
            print(f"found by {candidate} within {time.monotonic() - began:.0f} s")
            return
    pytest.fail(
        f"None of the pinned programs {list(pinned)} finds this mutant any more. If they have aged, which a change of steps or"
        f" of calls explains, pin new ones: RSU_PROOF_SEARCH=200 .venv/bin/pytest -s '{test}'",
        pytrace=False,
    )


def is_found(mutant: Mutant, run: Run, message: str, candidate: int) -> bool:
    """Return whether a candidate raises AssertionError with this message once the rule is broken."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutant(monkeypatch)
        try:
            run(candidate)
        except AssertionError:
            with pytest.raises(AssertionError, match=message):
                raise
            return True
    return False


def search(mutant: Mutant, run: Run, message: str, candidates: Iterable[int]) -> None:
    """Print the candidates that find what is broken and pass where it is not, with the seconds that each took.

    Fail when there is none.
    """
    found = 0
    for candidate in candidates:
        began = time.monotonic()
        if not is_found(mutant, run, message, candidate):
            continue
        seconds = time.monotonic() - began
        run(candidate)
        print(f"{candidate} finds it within {seconds:.0f} s", flush=True)
        found += 1
        if found == ENOUGH:
            break
    assert found, "no candidate finds this mutant"
