"""Wait for a database that cannot be reached yet, for example at the boot of a machine whose server starts later.

It waits only for transient failures: nothing listens, the name is not known yet, the server is starting or has no free
connection. A permanent refusal, such as a wrong password, is raised at once.
"""

import re
import time
from collections.abc import Callable

from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.database import DatabaseError

RETRY_SECONDS = 2.0
LOG_SECONDS = 30.0
"""How often an unchanged reason is logged again."""

# In the English of libpq and of the server. If the server answers in another language, the wait continues, and its reason
# is logged.
_PERMANENT = re.compile(
    r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry|pg_hba\.conf rejects|permission denied"
    r"|not permitted to log in|not currently accepting connections|does not support SSL|certificate|SSL error"
    r"|invalid (?:connection|port|sslmode|URI)|root certificate|too old|cannot be read as a PostgreSQL address",
    re.IGNORECASE,
)


def is_permanent(reason: str) -> bool:
    """Return whether a failure to connect lasts until somebody changes a setting or the server's configuration."""
    return bool(_PERMANENT.search(reason))


def wait_until_reachable(
    url: str,
    *,
    timeout_seconds: float,
    log: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return once the server accepts a session.

    Args:
        url: libpq URL of the database.
        timeout_seconds: The longest wait. May be infinite.
        log: Called with each new reason, and every 30 s with one that stays.
        sleep: Waits, replaced in tests.
        clock: The monotonic clock, replaced in tests.

    Raises:
        DatabaseError: The database refuses the session permanently, or the time is up.
    """
    began = clock()
    logged, logged_at = "", -LOG_SECONDS
    while True:
        try:
            database.connect(url, purpose="wait").close()
        except DatabaseError as error:
            reason, waited = str(error), clock() - began
            is_passing = isinstance(error, database.UnreachableError) and not is_permanent(reason)
            if not is_passing or waited >= timeout_seconds:
                raise
            if reason != logged or waited - logged_at >= LOG_SECONDS:
                log(f"Waiting for the database ({waited:.0f} s so far). {reason}")
                logged, logged_at = reason, waited
            sleep(min(RETRY_SECONDS, max(0.0, timeout_seconds - waited)))
        else:
            if logged:
                log(f"The database at {database.describe_server(url)} accepts sessions after {clock() - began:.0f} s.")
            return
