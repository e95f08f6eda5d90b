"""Sign messages as Standard Webhooks 1.0 specifies (https://www.standardwebhooks.com), with HMAC-SHA256."""

import base64
import binascii
import hmac
import secrets

from rsu_pipeline.warehouse.webhook_store import WebhookError

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64
"""Lengths of a secret that the specification allows."""


def generate_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> None:
    """Check that a secret has the form of the specification.

    Raises:
        WebhookError: it has not. The text does not repeat it.
    """
    try:
        size = len(_key(secret))
    except (binascii.Error, ValueError):
        size = 0
    if not (secret.startswith(PREFIX) and MIN_BYTES <= size <= MAX_BYTES):
        raise WebhookError(
            f"The secret must be {PREFIX} and the base64 form of {MIN_BYTES} to {MAX_BYTES} bytes. Let --new-secret make one."
        )


def sign(secret: str, message_key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message sent at `timestamp`, Unix seconds."""
    signed = f"{message_key}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()
    return {"webhook-id": message_key, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
