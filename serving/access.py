"""Who may call: one bearer token, compared in constant time."""

from __future__ import annotations

import hmac

from homeostat.errors import Unauthorized

_SCHEME = b"bearer "


class Access:
    """The door of the gateway.

    Args:
        token: The secret that a caller sends as `Authorization: Bearer TOKEN`.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, header: bytes | None) -> None:
        """Let the bearer of the token pass.

        Raises:
            Unauthorized: no header, another scheme, or another token.
        """
        if header is None:
            raise Unauthorized(
                "The request has no Authorization header.",
                remedy="Send 'Authorization: Bearer TOKEN'; the token is in the state folder.",
            )
        given = header[len(_SCHEME) :].strip()
        known_scheme = header[: len(_SCHEME)].lower() == _SCHEME
        if not hmac.compare_digest(given, self._token) or not known_scheme:
            raise Unauthorized(
                "The token of the request is not this gateway's.",
                remedy="Use the token in the state folder, or the one that was set.",
            )
