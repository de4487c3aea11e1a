"""The network addresses that may be contacted: those of the public internet, unless the user allows others.

A collection or a redirect may name any address. From inside a network, that could reach a cloud's metadata
service, a router or a database: server-side request forgery. So every name is resolved once, all its
addresses are checked, and the connection goes to a checked address. A name that changes its addresses in
between (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Final

from boxdrop.domain.errors import BoxdropError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # RFC 4291
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291, deprecated


class ForbiddenAddressError(BoxdropError):
    """The address is neither on the public internet nor allowed."""


def resolve(host: str, port: int) -> list[str]:
    """Resolve a name with the operating system.

    Raises:
        OSError: there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class AddressGuard:
    """Decides which addresses may be connected to.

    Args:
        allow: networks in addition to the public internet, such as ``10.1.0.0/16`` for a collection in the
            user's network.
        resolve: resolves names.

    Raises:
        BoxdropError: an entry of `allow` is not a network.
    """

    def __init__(self, allow: Iterable[str] = (), resolve: Resolve = resolve) -> None:
        self._allowed = tuple(_network(text) for text in allow)
        self._resolve = resolve

    def addresses(self, host: str, port: int) -> list[str]:
        """Resolve a name to the addresses that may be connected to.

        Raises:
            ForbiddenAddressError: one of its addresses is forbidden; then none is used.
            OSError: the name has no address.
        """
        found = self._resolve(host, port)
        for text in found:
            if not self.allows(text):
                raise ForbiddenAddressError(
                    f"{host} is {text}, which is not on the public internet; if this collection is your "
                    f"own, allow its network: --allow-network {_example(text)}"
                )
        return found

    def allows(self, text: str) -> bool:
        """Whether an address, as text, may be connected to."""
        address = ipaddress.ip_address(text.partition("%")[0])
        within = _embedded(address)
        return all(self._allows(each) for each in within)

    def _allows(self, address: Address) -> bool:
        if any(address in network for network in self._allowed if network.version == address.version):
            return True
        unicast = address.version == 4 or address in _GLOBAL_UNICAST
        return unicast and address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> list[Address]:
    """The addresses that a connection may reach: an IPv6 address may embed an IPv4 address that a gateway
    extracts."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:  # the system connects to the IPv4 address itself
        return [address.ipv4_mapped]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    return [address]


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise BoxdropError(
            f"--allow-network {text}: not a network; write 10.1.0.0/16 or 192.168.7.3"
        ) from None


def _example(text: str) -> str:
    address = ipaddress.ip_address(text.partition("%")[0])
    return f"{address}/{address.max_prefixlen}"
