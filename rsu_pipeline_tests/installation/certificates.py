"""A certificate for a server of the tests."""

import datetime as dt
import os
from contextlib import closing
from pathlib import Path

import psycopg2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rsu_pipeline_tests.servers import execute


def switch_encryption_on(url: str) -> str:
    """Have the server of an address, which runs on this machine, take encrypted connections. Returns the address."""
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute("SHOW data_directory")
        (folder,) = cur.fetchone() or ("",)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = (
        builder.not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    owner = Path(folder).stat()
    plain = serialization.NoEncryption()
    files = {
        "server.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "server.key": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    }
    for file, content in files.items():
        path = Path(folder) / file
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    execute(url, "ALTER SYSTEM SET ssl = on")
    execute(url, "SELECT pg_reload_conf()")
    return url
