"""Write the table of attacks on the web UI into docs/security.md.

`python -m rsu_pipeline_tests.docs.attacks` writes it, a test fails where the page differs. webserver/test_attacks.py
checks that each attack does what the table has.
"""

import re

from rsu_pipeline_tests.webserver.attacks import ATTACKS, CHANGES, NOTHING, READS
from tools.pages import PROJECT

PAGE = PROJECT / "docs" / "security.md"
COMMAND = "python -m rsu_pipeline_tests.docs.attacks"
BEGIN, END = "<!-- drawn: attacks -->", "<!-- end of attacks -->"
ACHIEVED = {CHANGES: "changes the hub", READS: "gets an answer", NOTHING: "nothing"}


def table() -> str:
    """Return what each attack achieves."""
    count = {outcome: sum(attack.plain == outcome for attack in ATTACKS) for outcome in ACHIEVED}
    lines = [
        f"Of {len(ATTACKS)} requests that a test sends, {count[CHANGES]} change the hub at `dagster-webserver` as it comes, and"
        f" {count[READS]} get an answer. At the hub's web UI and through the proxy example each is refused and changes nothing.",
        "",
        "| Request | `dagster-webserver` | the hub's web UI, and through the proxy |",
        "|---|---|---|",
    ]
    lines += [f"| {attack.name} | {ACHIEVED[attack.plain]} | refused |" for attack in ATTACKS]
    return "\n".join(lines)


def drawn(text: str) -> str:
    """Return the page with the table as it is now."""
    between = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    assert between.search(text), f"{PAGE} has no place for the attacks"
    return between.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", text)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
