"""Addresses that may be asked for images, and those that may not."""

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.addresses import AddressGuard, ForbiddenAddressError


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.0.0.7",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # carriers' own
        "169.254.169.254",  # the clouds' metadata
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",  # documentation
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "fd00:ec2::254",  # AWS's metadata
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not AddressGuard().allows(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_a_public_address_is_allowed(address: str) -> None:
    assert AddressGuard().allows(address)


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1", "::1"]
)
def test_loopback_is_refused_however_it_is_spelt(host: str) -> None:
    with pytest.raises(ForbiddenAddressError, match="--allow-network"):
        AddressGuard().addresses(host, 80)


def test_a_name_with_one_private_address_among_public_ones_is_refused() -> None:
    guard = AddressGuard(resolve=lambda host, port: ["93.184.216.34", "10.0.0.7"])

    with pytest.raises(ForbiddenAddressError, match=r"photos\.example is 10\.0\.0\.7"):
        guard.addresses("photos.example", 443)


def test_an_allowed_network_is_allowed_and_nothing_beside_it() -> None:
    guard = AddressGuard(["10.1.0.0/16", "fd00:1::/32"])

    assert guard.allows("10.1.2.3")
    assert guard.allows("::ffff:10.1.2.3")
    assert guard.allows("fd00:1::7")
    assert not guard.allows("10.2.0.1")
    assert not guard.allows("127.0.0.1")


def test_an_invalid_network_is_an_error() -> None:
    with pytest.raises(BoxdropError, match=r"--allow-network intranet: not a network"):
        AddressGuard(["intranet"])
