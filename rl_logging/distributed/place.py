"""Place: where a logger's inbox is, and how a worker reaches it.

Each says what it must: the inbox a nonce, the worker that with the token of the place, the
inbox welcome. Then the inbox asks, by numbers, and the worker sends frames.
"""

import hmac
import socket
import struct
from typing import NamedTuple

FRAME = struct.Struct("!QI")  # the number of the question, 0 for none, and how many bytes follow
QUESTION = struct.Struct("!Q")
NONCE = 32  # bytes
WELCOME = b"!"
_PATIENCE_S = 5.0


class Place(NamedTuple):
    """Where an inbox is.

    :param path: of its socket on its own machine
    :param address: its host and port for other machines; None if there is none
    :param token: a secret that only handles know
    """

    path: str
    address: tuple[str, int] | None
    token: bytes


def connected(place: Place) -> socket.socket:
    """A connection on which the inbox has said welcome.

    :raises OSError: it is not there, or does not answer in time
    """
    connection = _dialled(place)
    try:
        connection.sendall(hmac.digest(place.token, received(connection, NONCE), "sha256"))
        received(connection, len(WELCOME))
        connection.settimeout(None)
    except OSError:
        connection.close()
        raise
    return connection


def _dialled(place: Place) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE_S)
    try:
        connection.connect(place.path)
    except OSError:  # this may be another machine
        connection.close()
        if place.address is None:
            raise
        return socket.create_connection(place.address, _PATIENCE_S)
    return connection


def received(connection: socket.socket, size: int) -> bytes:
    """So many bytes.

    :raises ConnectionError: there are no more
    """
    content = b""
    while len(content) < size:
        more = connection.recv(size - len(content))
        if not more:
            raise ConnectionResetError("the other side has closed the connection")
        content += more
    return content
