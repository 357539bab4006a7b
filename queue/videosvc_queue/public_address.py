"""Where a stranger's URL may lead: to the public internet, and to nothing that only we can reach."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address for IPv6-only networks: reaches what is inside it


class RefusedAddress(Exception):
    """The host's name leads to an address that is not public, or to none."""


async def resolve(host: str, port: int, allow_private: bool = False) -> str:
    """One IP address of `host`, to connect to without asking the DNS again: a second answer could be another.

    Raises RefusedAddress if any of its addresses is not public.
    """
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RefusedAddress(f"{host} has no address: {error}") from error
    addresses = [str(answer[4][0]) for answer in answers]
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise RefusedAddress(f"{host} leads to {address}, which is not a public address")
    return addresses[0]


def is_public(address: str) -> bool:
    """`address`: IPv4 or IPv6 in any spelling; False if it is neither."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour is not None or ip.teredo is not None or ip.is_site_local or ip.scope_id is not None:
            return False  # tunnels to an IPv4 address of their choice, and addresses of one site or cable
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
