"""What the worst answers cost in memory, measured in a process of their own."""

import json
import subprocess
import sys
import tracemalloc

import pytest

from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.runsignup.transport import MAX_BODY_BYTES
from rsu_pipeline.sync.registration_rows import stage_registration
from rsu_pipeline_tests.hostile.server import HostileServer

CAP = MAX_BODY_BYTES >> 20
# What is played, how it ends, and how many MiB it may take beside what the process had before.
ANSWERS = {
    "bomb": ("answer larger than 64 MiB", 2 * CAP),
    "bomb_in_bomb": ("answer larger than 64 MiB", 2 * CAP),
    "flood_body": ("answer larger than 64 MiB", 2 * CAP),
    "many_members": ("more than 2,000,000 members in one answer", 4 * CAP),
    "many_keys": ("more than 2,000,000 members in one answer", 4 * CAP),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_memory_that_an_answer_takes_is_bounded(hostile: HostileServer, name: str) -> None:
    said, most = ANSWERS[name]
    command = [sys.executable, "-m", "rsu_pipeline_tests.hostile.measure", hostile.playing(name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert said in found["error"]
    assert found["peak"] - found["before"] < most, found


def test_large_rows_are_not_remembered_beyond_their_page() -> None:
    tracemalloc.start()
    for number in range(200):
        text = f"{number:06}" * 40_000
        sent = {
            "registration_id": 1,
            "event_id": 1,
            "user": None,
            "team_name": text,
            "giveaway": text,
            "race_fee": text,
        }
        stage_registration(decode_registration(json.dumps(sent).encode()), 1)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 << 20
