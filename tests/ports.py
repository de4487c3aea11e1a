"""Free ports for the servers of tests."""

import random
import socket

_FIRST, _LAST = 15_000, 29_999


def free_port() -> int:
    """A port on which nobody listens.

    It lies below the range from which the system takes ports for outgoing connections (from 32768 on Linux,
    from 49152 on macOS): a port of that range may be in use again before the server starts. It is chosen at
    random, so test processes beside each other do not choose the same.
    """
    while True:
        port = random.SystemRandom().randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
