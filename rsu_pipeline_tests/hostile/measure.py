"""One call in a process of its own, and the most memory that process ever had: JSON on standard output."""

import json
import os
import resource
import sys
import time

from rsu_pipeline.runsignup.api_errors import ApiError
from rsu_pipeline_tests.runsignup.tools import CountingLedger, client


def peak() -> int:
    """Return the peak memory in MiB. Linux counts in KiB, macOS in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used >> (20 if sys.platform == "darwin" else 10)


def measure() -> None:
    calls = client(sys.argv[1], CountingLedger(), attempts=1)
    before, began, error = peak(), time.monotonic(), None
    try:
        calls.participants_page(7, [1], after=0, size=2500)
    except ApiError as failure:
        error = str(failure)
    print(
        json.dumps({"before": before, "peak": peak(), "seconds": time.monotonic() - began, "error": error}), flush=True
    )


def main() -> None:
    # A new process begins with the peak of its parent, a fork of this small one with its own.
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    measure()


if __name__ == "__main__":
    main()
