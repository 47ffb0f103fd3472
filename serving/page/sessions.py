"""Who is signed in: a signed cookie that names a token, and never holds it, or a person.

Any gateway of an installation can check it, as all of them know the administrator's token, which
the signature is made with. A session ends after some hours, with the token that it was begun with,
when that is revoked, or when somebody signs out: the database keeps that until the cookie would
have ended, and every gateway knows it as soon as it knows of a revoked token. Who signed in at the
provider of the settings has what the settings give them now; their session ends by time and by
signing out, and all of them do with another provider or client.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from homeostat.errors import Forbidden, Unauthorized
from homeostat.settings import Settings
from serving.access import Access, Caller
from serving.page.people import Person, read_person, rights_of

COOKIE = "homeostat-session"
HOURS = 12  # that a session lasts which was begun with a token: a shift
_PERSON = "~"  # before a person, where a session of a token has its key


class Sessions:
    """Begins sessions, and knows whose one is.

    Args:
        access: Knows the tokens that work.
        settings: The administrator's token, a new one of which ends all sessions; the grants.
        clock: Seconds since 1970.
    """

    def __init__(
        self, access: Access, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self._access, self._settings, self._clock = access, settings, clock
        self._key = hmac.digest(settings.secret_token().encode(), b"homeostat page", hashlib.sha256)

    def begin(self, token: str) -> tuple[str, Caller]:
        """The cookie of a new session, and whose it is.

        Raises:
            Unauthorized: no such token works.
            Forbidden: it may not read.
            Unavailable: it cannot be known, as the database has been away for too long.
        """
        caller = self._access.check(b"Bearer " + token.strip().encode())
        self._access.need(caller, "read")
        return self._begun(caller.key, caller, HOURS), caller

    def begin_as(self, person: Person) -> tuple[str, Caller]:
        """The cookie of a new session of who signed in at the provider, and who they are here.

        Raises:
            Forbidden: the settings let them see nothing.
        """
        caller = self._person(person)
        hours = self._settings.oidc.session_hours
        return self._begun(f"{_PERSON}{person.written()}", caller, hours), caller

    def _begun(self, key: str, caller: Caller, hours: float) -> str:
        until = int(self._clock() + hours * 3600)
        said = f"{key}.{self._print(caller)}.{until}.{secrets.token_hex(16)}"
        return f"{said}.{self.sign('session', said)}"

    def whose(self, cookie: str) -> Caller:
        """Whose a session is.

        Raises:
            Unauthorized: nobody's: it is none of ours, is over, or its token works no more.
        """
        said, _, signature = cookie.rpartition(".")
        if hmac.compare_digest(signature.encode(), self.sign("session", said).encode()):
            key, fingerprint, until, session = said.split(".")
            caller = self._holder(key)
            if (
                caller is not None
                and session not in self._access.ended
                and self._clock() < int(until)
                and hmac.compare_digest(fingerprint, self._print(caller))
            ):
                return caller
        raise Unauthorized("Nobody is signed in.", remedy="Sign in.")

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
        return self.sign("form", cookie)

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

    def sign(self, purpose: str, said: str) -> str:
        """What this installation alone can say of something, for one purpose: 64 letters."""
        return hmac.new(self._key, f"{purpose} {said}".encode(), hashlib.sha256).hexdigest()

    def _holder(self, key: str) -> Caller | None:
        """Whose a session with this key is, if anybody's."""
        if not key.startswith(_PERSON):
            return self._access.holder(key)
        person = read_person(key[len(_PERSON) :])
        try:
            return None if person is None else self._person(person)
        except Forbidden:  # the grant was taken away
            return None

    def _person(self, person: Person) -> Caller:
        rights = rights_of(person, self._settings.oidc.grants, self._settings.models)
        return self._access.person(person.name, rights)

    def _print(self, caller: Caller) -> str:
        """What tells a token from the next one under its key, and gives its hash not away.

        Of a person: what tells the provider that named them from another.
        """
        oidc = self._settings.oidc
        of = caller.hash if caller.rights is None else f"{oidc.issuer} {oidc.client_id}".encode()
        return hashlib.sha256(b"homeostat session " + of).hexdigest()[:24]
