"""Enter a key and a secret: prompts, what their form shows, and what a rejected pair may be instead."""

import os
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rsu_pipeline.sync.session import PartnerSession

_REGISTRATION = re.compile(r"\d+\.[A-Za-z0-9_-]+")
_NAMED = re.compile(r"(api_key|api_secret|rsu_api_key|sp_api_key|key|secret)\s*[=:]\s*", re.IGNORECASE)
_BEARER = re.compile(r"bearer\s", re.IGNORECASE)


def read_key(given: str | None) -> str:
    """Return the API key: the given one, else the answer to a prompt.

    Raises:
        UsageError: there is no terminal to ask at.
    """
    if given:
        return given
    if not sys.stdin.isatty():
        raise click.UsageError("No key. Give --key or set RSU_PARTNER_KEY. Standard input is for the secret.")
    return str(click.prompt("RunSignup API key"))


def read_secret() -> str:
    """Return the secret: of RSU_PARTNER_SECRET, of standard input if that is no terminal, or of a prompt."""
    if secret := os.environ.get("RSU_PARTNER_SECRET"):
        return secret
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().decode(errors="surrogateescape")
    return str(click.prompt("RunSignup API secret", hide_input=True))


def find_form_problem(key: str, secret: str) -> str | None:
    """Return what is certainly wrong with the form of a pair, without repeating either, or None."""
    for what, text in (("key", key), ("secret", secret)):
        if match := _NAMED.match(text):
            return f"The {what} begins with the name {match[1]!r}. Enter the value only."
        if _BEARER.match(text):
            return f"The {what} is an OAuth token. Enter the API key and secret that RunSignup issued to the timing company."
        if any(one.isspace() for one in text):
            return f"The {what} has a blank in it. Copy it from RunSignup again."
    if key == secret:
        return "Key and secret are the same. Copy the other one from RunSignup again."
    if _REGISTRATION.fullmatch(key):
        return "The key is a caller registration (a number, a dot and a token). Set it as RSU_API_REG, and enter the partner's key."
    return None


def suspect_form(key: str, secret: str) -> str | None:
    """Return what may be wrong with the form of a pair that RunSignup rejects, or None."""
    if len(key) == len(secret):
        return None
    shorter, fewer, more = (
        ("key", len(key), len(secret)) if len(key) < len(secret) else ("secret", len(secret), len(key))
    )
    return f"The {shorter} has {fewer} characters and the other {more}: it may have been cut off when it was copied."


def find_alternative(session: "PartnerSession", key: str, secret: str, scheme: str) -> str | None:
    """Return what a rejected pair is instead, if RunSignup accepts it so: swapped, or of another kind. Else None."""
    from rsu_pipeline import installation
    from rsu_pipeline.runsignup.api_errors import ApiError
    from rsu_pipeline.sync import access
    from rsu_pipeline.sync.session import build_client
    from rsu_pipeline.warehouse.credentials import OpenCredential

    kinds = [(secret, key, scheme, "Key and secret are swapped. Enter them the other way round.")]
    kinds += [
        (key, secret, other, f"RunSignup accepts this pair as {what}. Add --scheme {other}.")
        for other, what in (("rsu_api_key", "an API v2 key"), ("api_key", "a key of a timer"))
        if other != scheme
    ]
    for its_key, its_secret, its_scheme, sentence in kinds:
        pair = OpenCredential(session.credential_id, 0, its_scheme, its_key, its_secret)
        other = replace(session, client=build_client(installation.current().settings, pair, session.ledger))
        try:
            if access.check_access(other) is access.Verdict.WORKS:
                return sentence
        except ApiError:
            continue
    return None
