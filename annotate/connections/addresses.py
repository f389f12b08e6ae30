"""Which servers this site may call: those that its settings name, and others on the public internet
over TLS.

A name is resolved and every address it has is looked at when a call is made; the call then goes to
an address that was looked at, whatever the name leads to a moment later."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.core.exceptions import ValidationError

NAT64 = IPv6Network("64:ff9b::/96")
# What `ipaddress` calls global, in one version of Python or another, and is not for us to call:
# special purposes (RFC 6890), and where clouds keep the metadata of their machines.
NOT_FOR_US = tuple(
    map(
        ip_network,
        (
            *("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"),
            *("2001::/23", "3fff::/20", "5f00::/16"),
        ),
    )
)

Address = IPv4Address | IPv6Address


class NotPublic(httpx.TransportError):
    """The name leads into a network that this site may not look into."""


def is_trusted(base: str) -> bool:
    """Whether the installation vouches for this server, wherever it is."""
    return base in settings.INFERENCE_ENDPOINTS


def validate_base(base: str) -> None:
    """Raises ValidationError unless this may be the base URL of a connection."""
    try:
        url = urlsplit(base)
        host, _ = url.hostname, url.port
        httpx.URL(base)
    except (ValueError, httpx.InvalidURL):
        raise ValidationError("This is not a valid address.")
    if url.scheme not in ("http", "https") or not host:
        raise ValidationError("Enter an address like https://api.example.com/v1.")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise ValidationError("Leave out user names, passwords, “?” and “#”.")
    if base.endswith("/chat/completions"):
        raise ValidationError("Leave out /chat/completions: the address ends before it.")
    if url.scheme == "http" and not is_trusted(base):
        raise ValidationError(
            "Only servers that the setting INFERENCE_ENDPOINTS names may be called without TLS. "
            "Use https://, or have whoever runs this site add the address there."
        )


def resolve(host: str, port: int) -> list[str]:
    """Returns the addresses of `host`. Raises NotPublic where one of them may not be called, as the
    name of a public server has none such, and httpx.ConnectError where it has no address."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} has no address") from error
    found = [str(to[0]) for *_, to in answers]
    if not found or not all(is_public(ip_address(each.partition("%")[0])) for each in found):
        raise NotPublic(f"{host} is not on the public internet")
    return list(dict.fromkeys(found))


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, IPv4 within IPv6 looked through."""
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped or address.sixtofour or address.teredo or address.is_site_local:
            return False
    if any(address in each for each in NOT_FOR_US):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
