"""docs/dependencies.md lists what is locked, under accepted licences, and the tools of the Makefile."""

import re
from email.message import Message

import pytest

from tools import licences
from tools.licences import ELSEWHERE, Locked
from tools.pages import PROJECT

LOCK = """\
alpha==1.0 \\
    --hash=sha256:00
beta==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:01
beta==3.0 ; python_full_version >= '3.12' \\
    --hash=sha256:02
gamma==4.0 ; sys_platform == 'no such system' \\
    --hash=sha256:03
"""


def of_lock() -> list[Locked]:
    return licences.locked(licences.LOCK.read_text().splitlines())


def page(*rows: str) -> str:
    return "\n".join(
        ["# A page", licences.BEGIN, "| package | version | licence |", "|---|---|---|", *rows, licences.END]
    )


def test_the_page_lists_what_is_locked() -> None:
    packages = of_lock()
    assert len(packages) > 60
    found = licences.differences(licences.PAGE.read_text(encoding="utf-8"), packages)
    assert found == [], f"{licences.PAGE.name} is out of date: `{licences.COMMAND}`"


def test_every_licence_is_one_that_we_accept() -> None:
    packages = of_lock()
    refused = {
        package.name: licence
        for package in packages
        if (licence := licences.of_installed(package)) is not None and not licences.is_accepted(licence)
    }
    assert refused == {}
    # Nothing escapes by being "for another system" but what Windows needs.
    assert {package.name for package in packages if package.here is None} <= {"colorama", "pyreadline3", "pywin32"}


def test_the_page_names_every_licence_that_we_accept() -> None:
    text = licences.PAGE.read_text(encoding="utf-8")
    assert {name for name in licences.ACCEPTED if f"`{name}`" not in text} == set()


def test_a_lock_is_read_with_its_markers() -> None:
    alpha, beta, gamma = licences.locked(LOCK.splitlines())
    assert alpha == Locked("alpha", ("1.0",), "1.0")
    assert beta.versions == ("2.0", "3.0") and beta.here in beta.versions
    assert gamma == Locked("gamma", ("4.0",), None)


def test_a_page_that_differs_is_noticed() -> None:
    packages = licences.locked(LOCK.splitlines())

    def differences(*rows: str) -> list[str]:
        return licences.differences(page(*rows), packages, lambda package: None if package.here is None else "MIT")

    alpha, beta, gamma = "| alpha | 1.0 | MIT |", "| beta | 2.0, 3.0 | BSD-3-Clause |", f"| gamma | 4.0 | {ELSEWHERE} |"
    assert differences(alpha, beta, gamma) == []
    for rows in (
        (alpha, beta),
        (alpha, beta, gamma, "| delta | 1.0 | MIT |"),
        ("| alpha | 1.1 | MIT |", beta, gamma),
        ("| alpha | 1.0 | ISC |", beta, gamma),
        (alpha, "| beta | 2.0 | BSD-3-Clause |", gamma),
    ):
        assert len(differences(*rows)) == 1, rows
    with pytest.raises(ValueError, match="no place for the licences"):
        licences.differences("# A page", packages)


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("MIT", True),
        ("LGPL-3.0-or-later", True),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0-only", False),
        ("LicenseRef-Proprietary", False),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-2.0-only AND MIT", False),
        ("MIT AND GPL-2.0-only OR GPL-3.0-only", False),
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", True),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_the_rule_of_licences(expression: str, accepted: bool) -> None:
    assert licences.is_accepted(expression) is accepted


def said(**fields: str) -> Message:
    package = Message()
    package["Name"] = "alpha"
    for name, value in fields.items():
        for one in value.split(" + "):
            package[name.replace("_", "-")] = one
    return package


@pytest.mark.parametrize(
    ("package", "licence"),
    [
        (said(License_Expression="mit or apache-2.0", License="ignored"), "MIT OR Apache-2.0"),
        (said(License="BSD-3-Clause"), "BSD-3-Clause"),
        (said(License="LGPL with exceptions"), "LGPL-3.0-or-later"),
        (
            said(
                License="Dual License",
                Classifier="License :: OSI Approved :: BSD License + License :: OSI Approved :: Apache Software License",
            ),
            "Apache-2.0 AND BSD-3-Clause",
        ),
        (said(License="Copyright\n 2026", Classifier="License :: OSI Approved :: MIT License"), "MIT"),
        (said(Classifier="Programming Language :: Python"), None),
        (said(License="see our terms"), None),
    ],
)
def test_a_licence_is_told_from_what_a_package_says(package: Message, licence: str | None) -> None:
    if licence is None:
        with pytest.raises(licences.Unreadable, match="alpha"):
            licences.of_metadata(package)
    else:
        assert licences.of_metadata(package) == licence


def test_an_environment_that_is_not_the_locks_is_noticed() -> None:
    with pytest.raises(licences.Unreadable, match="not installed: `make setup`"):
        licences.of_installed(Locked("no-such-package", ("1.0",), "1.0"))
    with pytest.raises(licences.Unreadable, match=r"locked as 0\.1: `make setup`"):
        licences.of_installed(Locked("packaging", ("0.1",), "0.1"))
    assert licences.of_installed(Locked("no-such-package", ("1.0",), None)) is None


def test_the_tools_are_locked_in_the_versions_of_the_makefile() -> None:
    (pins,) = re.findall(r"^TOOLS := (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    lock = licences.locked((PROJECT / "requirements-tools.txt").read_text().splitlines())
    versions = {package.name: package.versions for package in lock}
    assert len(pins.split()) == 2
    for pin in pins.split():
        name, _, version = pin.partition("==")
        assert versions[name] == (version,), pin
