"""Addresses of servers."""

from __future__ import annotations


def has_certificate(address: str) -> bool:
    """Whether a client of an address has a certificate to check, for httpx's `verify`.

    For plain HTTP it has none, and reading those of all authorities, which takes 30 ms of a core,
    can be left out.
    """
    return not address.lower().startswith("http:")
