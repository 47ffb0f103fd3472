"""How tests ask a server on the loopback."""

from __future__ import annotations

from functools import partial

import httpx

from homeostat.addresses import has_certificate

# By itself httpx reads the certificates of all authorities at each call, 30 ms of a core: a test
# that looks ten times a second whether a server is there would do little else.
ask = partial(
    httpx.request, timeout=30.0, trust_env=False, verify=has_certificate("http://127.0.0.1")
)
