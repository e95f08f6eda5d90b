"""The licences of everything that runs, from the lock and from the metadata of the installed packages.

`python -m tools.licences` writes them to docs/dependencies.md. A test fails where that page differs from
the lock, and where a licence is none that we accept.
"""

import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement

from tools.pages import PROJECT

LOCK = PROJECT / "requirements.txt"
PAGE = PROJECT / "docs" / "dependencies.md"
COMMAND = "python -m tools.licences"
BEGIN, END = "<!-- drawn: licences -->", "<!-- end of licences -->"

PERMISSIVE = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 ISC MIT MIT-0 MIT-CMU PostgreSQL PSF-2.0 Python-2.0 Zlib".split()
)
WEAK_COPYLEFT = frozenset("LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later MPL-2.0".split())
"""A change to such a package must be given on under its licence; a program that only uses it keeps its own."""
ACCEPTED = PERMISSIVE | WEAK_COPYLEFT

SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "LGPL with exceptions": "LGPL-3.0-or-later",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages write who do not write SPDX. Where it is only BSD, the stricter of the two usual ones."""

ELSEWHERE = "not read, for another system"
"""In place of the licence of a package that is not installed here."""


class Unreadable(ValueError):
    """A licence that cannot be determined."""


@dataclass(frozen=True)
class Locked:
    """A package of the lock: the versions that some Python or system gets, and the one that this one gets, if any."""

    name: str
    versions: tuple[str, ...]
    here: str | None


def locked(lines: Iterable[str]) -> list[Locked]:
    """Return the packages of a lock, by name."""
    versions: dict[str, list[str]] = {}
    here: dict[str, str] = {}
    for line in lines:
        if not re.match(r"[A-Za-z0-9]", line):
            continue  # a hash
        requirement = Requirement(line.rstrip("\\\n "))
        (pin,) = requirement.specifier
        versions.setdefault(requirement.name, []).append(pin.version)
        if requirement.marker is None or requirement.marker.evaluate():
            here[requirement.name] = pin.version
    return [Locked(name, tuple(found), here.get(name)) for name, found in sorted(versions.items())]


def of_metadata(package: metadata.PackageMetadata) -> str:
    """Return the licence that a package declares, as an SPDX expression. Raises Unreadable."""
    classifiers = [
        line.rpartition(" :: ")[2] for line in package.get_all("Classifier") or () if line.startswith("License ::")
    ]
    # The field License may hold a whole text, or "Dual License"; then the classifiers count, every one of them.
    for said in (
        package.get("License-Expression", ""),
        package.get("License", ""),
        " AND ".join(SPELLINGS.get(one, one) for one in sorted(set(classifiers))),
    ):
        with suppress(InvalidLicenseExpression):
            return str(canonicalize_license_expression(SPELLINGS.get(said.strip(), said)))
    raise Unreadable(f"{package['Name']} does not declare its licence in known words.")


def of_installed(package: Locked) -> str | None:
    """Return the licence of an installed package, or None for one that does not belong here. Raises Unreadable."""
    if package.here is None:
        return None
    try:
        distribution = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        raise Unreadable(f"{package.name} is locked and not installed: `make setup`.") from None
    if distribution.version != package.here:
        raise Unreadable(
            f"{package.name} is installed as {distribution.version}, locked as {package.here}: `make setup`."
        )
    return of_metadata(distribution.metadata)


def is_accepted(expression: str) -> bool:
    """Return whether an SPDX expression leaves us with licences that we accept: of AND all, of OR one.

    What follows WITH is an exception, which only ever allows more.
    """
    words = re.findall(r"[()]|[^\s()]+", expression)

    def either() -> bool:
        found = both()
        while words[:1] == ["OR"]:
            del words[0]
            found = both() or found
        return found

    def both() -> bool:
        found = one()
        while words[:1] == ["AND"]:
            del words[0]
            found = one() and found
        return found

    def one() -> bool:
        word = words.pop(0)
        if word == "(":
            found = either()
            del words[0]
            return found
        if words[:1] == ["WITH"]:
            del words[:2]
        return word in ACCEPTED

    return either()


def row(package: Locked, licence: str | None) -> str:
    """Return a package's line of the table."""
    return f"| {package.name} | {', '.join(package.versions)} | {licence or ELSEWHERE} |"


def table(packages: Iterable[Locked], licence_of: Callable[[Locked], str | None] = of_installed) -> str:
    """Return the packages with their licences."""
    rows = [row(package, licence_of(package)) for package in packages]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows])


def listed(text: str) -> dict[str, str]:
    """Return the lines of the table in a page, by package."""
    _, begun, rest = text.partition(BEGIN)
    part, ended, _ = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"{PAGE.name} has no place for the licences: {BEGIN} … {END}")
    return {line.split("|")[1].strip(): line for line in part.splitlines() if line.startswith("| ")}


def differences(
    text: str, packages: Iterable[Locked], licence_of: Callable[[Locked], str | None] = of_installed
) -> list[str]:
    """Return how a page differs from the lock and the installed packages.

    Of a package that has several versions or belongs to another system the page's licence counts, since the page may have been
    drawn there.
    """
    lines = listed(text)
    lines.pop("package", None)
    found = []
    for package in packages:
        line = lines.pop(package.name, None)
        if line is None:
            found.append(f"{package.name} is locked and not listed")
            continue
        licence = licence_of(package)
        if licence is None or len(package.versions) > 1:
            licence = line.split("|")[3].strip()
        if line != row(package, licence):
            found.append(f"{package.name} is listed as {line!r}, not {row(package, licence)!r}")
    return found + [f"{name} is listed and not locked" for name in lines]


def main() -> int:
    try:
        drawn = table(locked(LOCK.read_text().splitlines()))
    except Unreadable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    text = PAGE.read_text(encoding="utf-8")
    listed(text)
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{drawn}\n\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
