"""Every attack of the table against the hub's web UI, directly and through the proxy example.

And against Dagster's own.
"""

import pytest

from rsu_pipeline_tests.webserver.attacks import ATTACKS, CHANGES, READS, Attack
from rsu_pipeline_tests.webserver.conftest import Installation
from rsu_pipeline_tests.webserver.targets import Answer

NAMES = [attack.name for attack in ATTACKS]
UNSEEN_BY_A_PROXY = (
    "JSON with two origins, ours first",
    "a batch of two documents",
    "a mutation over our page's websocket",
    "a query over our page's websocket",
    "a materialization that never was, by GraphQL of our page",
    "a check that never ran, by GraphQL of our page",
)
"""What is wrong with these is in what a proxy does not read, or no browser sends them."""


def play(installation: Installation, target: str, attack: Attack) -> tuple[str, Answer]:
    """Send an attack, and return what it achieved and its answer."""
    before = installation.state
    answer = installation.targets[target].send(attack, **installation.ids)
    after = installation.state
    if after != before:
        installation.start_sensor()
        return CHANGES, answer
    is_open = answer.status == 101 and len(attack.messages) == 1
    return (READS if answer.reveals or is_open else "nothing"), answer


def is_refused(answer: Answer) -> bool:
    """Return whether it was refused by a status, by a closed websocket, or in Dagster's words."""
    return answer.status >= 400 or answer.status == 101 or b"RunConfigValidationInvalid" in answer.body


def test_there_are_enough_attacks_of_every_kind_and_each_has_a_name() -> None:
    assert len(set(NAMES)) == len(ATTACKS) > 45
    assert sum(attack.is_websocket for attack in ATTACKS) >= 6
    assert {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"} <= {attack.method for attack in ATTACKS}


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_an_attack_achieves_at_dagsters_own_webserver_what_the_table_says(
    installation: Installation, attack: Attack
) -> None:
    """Else a refusal below might prove nothing."""
    achieved, answer = play(installation, "plain", attack)
    assert achieved == attack.plain, answer


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_no_attack_changes_or_reveals_anything_at_the_web_ui(installation: Installation, attack: Attack) -> None:
    achieved, answer = play(installation, "hub", attack)
    assert achieved == "nothing", answer
    assert is_refused(answer), answer


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_no_attack_changes_or_reveals_anything_through_the_proxy(installation: Installation, attack: Attack) -> None:
    achieved, answer = play(installation, "proxy", attack)
    assert achieved == "nothing", answer
    assert is_refused(answer), answer


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_the_proxy_alone_lets_no_attack_of_a_browser_through(installation: Installation, attack: Attack) -> None:
    """Before Dagster's own webserver."""
    if attack.name in UNSEEN_BY_A_PROXY:
        return
    achieved, answer = play(installation, "proxy before plain", attack)
    assert achieved == "nothing", answer
