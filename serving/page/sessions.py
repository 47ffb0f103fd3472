"""Who is signed in: a signed cookie that names a token, and never holds it.

Any gateway of an installation can check it, as all of them know the administrator's token, which
the signature is made with. A session ends after some hours, with the token that it was begun with,
when that is revoked, or when somebody signs out: the database keeps that until the cookie would
have ended, and every gateway knows it as soon as it knows of a revoked token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from homeostat.errors import Forbidden, Unauthorized
from serving.access import Access, Caller

COOKIE = "homeostat-session"
HOURS = 12  # that a session lasts: a shift


class Sessions:
    """Begins sessions, and knows whose one is.

    Args:
        access: Knows the tokens that work.
        secret: The administrator's token; a new one ends all sessions.
        clock: Seconds since 1970.
    """

    def __init__(self, access: Access, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._access, self._clock = access, clock
        self._key = hmac.digest(secret.encode(), b"homeostat page", hashlib.sha256)

    def begin(self, token: str) -> tuple[str, Caller]:
        """The cookie of a new session, and whose it is.

        Raises:
            Unauthorized: no such token works.
            Forbidden: it may not read.
            Unavailable: it cannot be known, as the database has been away for too long.
        """
        caller = self._access.check(b"Bearer " + token.strip().encode())
        self._access.need(caller, "read")
        until = int(self._clock()) + HOURS * 3600
        said = f"{caller.key}.{_print(caller)}.{until}.{secrets.token_hex(16)}"
        return f"{said}.{self._sign('session', said)}", caller

    def whose(self, cookie: str) -> Caller:
        """Whose a session is.

        Raises:
            Unauthorized: nobody's: it is none of ours, is over, or its token works no more.
        """
        said, _, signature = cookie.rpartition(".")
        if hmac.compare_digest(signature.encode(), self._sign("session", said).encode()):
            key, fingerprint, until, session = said.split(".")
            caller = self._access.holder(key)
            if (
                caller is not None
                and session not in self._access.ended
                and self._clock() < int(until)
                and hmac.compare_digest(fingerprint, _print(caller))
            ):
                return caller
        raise Unauthorized("Nobody is signed in.", remedy="Sign in with a token.")

    def end(self, cookie: str) -> tuple[str, datetime]:
        """Let a session be over here at once, whoever has a copy of its cookie.

        Returns:
            Its id, and until when the other gateways have to know.

        Raises:
            Unauthorized: it is nobody's.
        """
        self.whose(cookie)
        *_, until, session, _ = cookie.split(".")
        self._access.ended |= {session}
        return session, datetime.fromtimestamp(int(until), UTC)

    def lasts(self, cookie: str) -> bool:
        """Whether a session is still somebody's."""
        try:
            self.whose(cookie)
        except Unauthorized:
            return False
        return True

    def form_token(self, cookie: str) -> str:
        """What every form of a session holds: another site cannot know it."""
        return self._sign("form", cookie)

    def check_form(self, cookie: str, given: str) -> None:
        """Refuse a form that is not of the one who is signed in.

        Raises:
            Forbidden: it is not.
        """
        if not hmac.compare_digest(given.encode(), self.form_token(cookie).encode()):
            raise Forbidden(
                "The form is not of the one who is signed in.",
                remedy="Open the page again and send it anew.",
            )

    def _sign(self, purpose: str, said: str) -> str:
        return hmac.new(self._key, f"{purpose} {said}".encode(), hashlib.sha256).hexdigest()


def _print(caller: Caller) -> str:
    """What tells a token from the next one under its key, and gives its hash not away."""
    return hashlib.sha256(b"homeostat session " + caller.hash).hexdigest()[:24]
