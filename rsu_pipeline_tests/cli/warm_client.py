"""Has the process of warm.py run a command, with this process's streams, environment and folder, and ends as it does.

    python -I -S warm_client.py SOCKET SCRIPT ARGUMENTS ...

A process whose streams are a shell's. It imports little, for it is started often.
"""

import json
import os
import signal
import socket
import struct
import sys

LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")


def send(address: str, arguments: list[str], environment: dict[str, str], streams: list[int]) -> socket.socket:
    """Send a command to the process that is copied. It answers with STATUS twice: the process, and how that ended."""
    umask = os.umask(0)
    os.umask(umask)
    command = {"arguments": arguments, "environment": environment, "folder": os.getcwd(), "umask": umask}  # noqa: PTH109
    message = json.dumps(command).encode()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    socket.send_fds(connection, [LENGTH.pack(len(message))], streams)
    connection.sendall(message)
    return connection


def receive(connection: socket.socket, size: int) -> bytes:
    """Return this number of bytes. Raises EOFError if the other end is gone before."""
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError("the process of the other end is gone")
        found += part
    return found


def main(address: str, *arguments: str) -> int:
    with send(address, list(arguments), dict(os.environ), [0, 1, 2]) as connection:
        (pid,) = STATUS.unpack(receive(connection, STATUS.size))
        if pid == 0:
            os.execv(arguments[0], arguments)  # noqa: S606 - what the process cannot be a copy for
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: os.kill(pid, number))
        (status,) = STATUS.unpack(receive(connection, STATUS.size))
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
