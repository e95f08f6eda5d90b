"""Write which tests `make test` leaves to .ci/run because they take seconds each, from what a run of all took.

    make test-all                                       # leaves build/tests.xml
    python -m tools.slow_tests build/tests.xml

Tests of the documentation and of the definitions stay, however long they take: nearly every change concerns them.
"""

import sys
from collections import defaultdict
from xml.etree import ElementTree as Xml

from rsu_pipeline_tests import schedule

SLOW_SECONDS = 2.0
"""How long a test takes on average, for all values of its parameters, with three processes at two cores."""
KEPT = ("docs/", "test_definitions", "test_suite")


def select_slow(report: Xml.ElementTree) -> list[str]:  # type: ignore[type-arg]
    """Return the slow tests of a report in JUnit's form, without parameters, those with a marker of their own left out."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for case in report.iter("testcase"):
        names = case.get("classname", "").split(".")
        classes = [name for name in names if name.startswith("Test")]
        path = "/".join(names[: len(names) - len(classes)]).removeprefix(schedule.ROOT)
        test = "::".join([f"{path}.py", *classes, case.get("name", "").partition("[")[0]])
        seconds[test].append(float(case.get("time", "0")))
    others = tuple(name for marker, names in schedule.LEFT_TO_CI.items() if marker != "slow" for name in names)
    return sorted(
        name
        for name, each in seconds.items()
        if sum(each) / len(each) >= SLOW_SECONDS and not name.startswith((*others, *KEPT))
    )


def main() -> None:
    path = schedule.SLOW_TESTS
    report = Xml.parse(sys.argv[1])  # noqa: S314 - pytest wrote it
    path.write_text("".join(f"{name}\n" for name in select_slow(report)))
    print(f"{path}: {len(path.read_text().splitlines())} tests")


if __name__ == "__main__":
    main()
