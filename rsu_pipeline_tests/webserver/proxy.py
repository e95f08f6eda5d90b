"""The proxy example, as nginx runs it here: other ports, a certificate and passwords of the test."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rsu_pipeline_tests.deploy.deployed import DEPLOY

MISSING = "The tests of the proxy need the command nginx: `apt-get install nginx-light`, as root, gives it."
HUB, LOOK = "hub.example.com", "look.example.com"
PASSWORD = "ada:enchantress"


def find_nginx() -> str:
    """Return its path. Without it the tests that need it are skipped, or fail where CI=true."""
    if found := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(MISSING, pytrace=False)
    pytest.skip(MISSING)


def configuration(folder: Path, port: int, plain_port: int, upstreams: dict[str, int]) -> str:
    """Return deploy/proxy/nginx.conf, with what a machine must change changed."""
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    changes = [
        (r"listen 80\b", f"listen 127.0.0.1:{plain_port}"),
        (r"listen 443\b", f"listen 127.0.0.1:{port}"),
        (r"/etc/ssl/rsu/", f"{folder}/"),
        (r"/etc/nginx/rsu-", f"{folder}/rsu-"),
        (r"(hub\.example\.com\s+)3000;", rf"\g<1>{upstreams[HUB]};"),
        (r"(look\.example\.com\s+)3001;", rf"\g<1>{upstreams[LOOK]};"),
    ]
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{ }}\n"
        f"http {{\naccess_log off;\n{places}{text}\n}}\n"
    )


@contextmanager
def running(folder: Path, port: int, plain_port: int, upstreams: dict[str, int]) -> Iterator[None]:
    program = find_nginx()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem", "-subj", f"/CN={HUB}"],
        check=True, capture_output=True,
    timeout=120)  # fmt: skip
    name, _, secret = PASSWORD.partition(":")
    for users in ("operators", "readers"):
        (folder / f"rsu-{users}").write_text(f"{name}:{{PLAIN}}{secret}\n")
    path = folder / "nginx.conf"
    path.write_text(configuration(folder, port, plain_port, upstreams))
    checked = subprocess.run(
        [program, "-t", "-c", path, "-e", "stderr"], capture_output=True, text=True, check=False, timeout=120
    )
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr, checked.stderr
    process = subprocess.Popen([program, "-c", path, "-e", "stderr"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait(20)
