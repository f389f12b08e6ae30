"""Whose request it is: what a proxy says of that counts only where the proxy is one of ours."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST")


class ForwardedMiddleware:
    """Makes REMOTE_ADDR the address of whoever spoke to the outermost of TRUSTED_PROXIES, and drops
    the headers by which anybody else tells of others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        meta = request.META
        if not _is_ours(_address(meta.get("REMOTE_ADDR", ""))):
            for name in FORWARDED:
                meta.pop(name, None)
            return self.get_response(request)
        # Each proxy adds its peer on the right; the first that is none of ours is whom we serve.
        for said in reversed(meta.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            address = _address(said.strip())
            if address is None:
                break
            meta["REMOTE_ADDR"] = str(address)
            if not _is_ours(address):
                break
        return self.get_response(request)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_ours(address: IPv4Address | IPv6Address | None) -> bool:
    return address is not None and any(
        address in ip_network(each, strict=False) for each in settings.TRUSTED_PROXIES
    )
