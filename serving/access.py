"""Who may call, and what: bearer tokens, checked from memory.

What the database knows of tokens is copied here every second (`serving.token_watch`), so a check
is one hash, one look-up and one comparison in constant time, and never waits for a database. The
token of the state folder is in no database: it is the administrator's, and always works.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from homeostat.errors import Forbidden, SettingsError, Unauthorized, Unavailable
from homeostat.settings import Settings
from registry.tokens import ACTING, MARK, VERBS, Token
from serving.fleet import unknown_model
from serving.meters import Meter

_SCHEME = b"bearer "
_MARK = f"{MARK}_".encode()
_KEY = slice(len(_MARK), len(_MARK) + 12)  # where a secret says which it is
EVERY = frozenset(VERBS)
NOBODY = "API"  # what a body's actor is where it gives none


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token belongs to, or who signed in at the provider of the settings.

    Args:
        name: Who: the actor of whatever is done with it.
        verbs: What they may do, with one model or another.
        models: With which models; None: with all.
        key: Which of their secrets it is; of the administrator's token a fingerprint.
        hash: SHA-256 of the secret.
        until: When it ends, in seconds since 1970.
        meter: How much they may ask for.
        root: Whether it is the token of the state folder.
        rights: What they may do with each model, where that differs; None: `verbs` with all.
    """

    name: str
    verbs: frozenset[str]
    models: frozenset[str] | None
    key: str
    hash: bytes
    until: float
    meter: Meter
    root: bool = False
    rights: Mapping[str, frozenset[str]] | None = None

    def of(self, model: str) -> frozenset[str]:
        """What they may do with a model of theirs."""
        return self.verbs if self.rights is None else self.rights.get(model, frozenset())

    def sees(self, model: str) -> bool:
        """Whether a model is theirs to know of."""
        return self.models is None or model in self.models

    def acts_as(self, said: str) -> str:
        """The actor of what they do: their name, or with the administrator's token what they say.

        Raises:
            Forbidden: they say another's name.
        """
        if self.root or said == self.name:
            return said
        if said == NOBODY:
            return self.name
        raise Forbidden(
            f"The token of '{self.name}' cannot act as '{said}'.",
            remedy="Leave the name out: it is the token's.",
            name=self.name,
        )


class Access:
    """The door of the gateway.

    Args:
        settings: Of this installation: the administrator's token, the models, the limits.
        clock: Seconds since 1970.

    Raises:
        SettingsError: the administrator's token is one of the tokens that are made here.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        secret = settings.secret_token()
        if secret.encode().startswith(_MARK):
            raise SettingsError(
                "The gateway's own token is one that `homeostat token create` made.",
                remedy="Unset HOMEOSTAT_TOKEN where the gateway runs; it is for those who call.",
            )
        self._settings, self._clock = settings, clock
        self._models = tuple(settings.models)
        self._root = Caller(
            "admin", EVERY, None, "", sha256(secret.encode()).digest(), float("inf"), Meter(), True
        )
        self._known: dict[bytes, Caller] = {}
        self._meters: dict[str, Meter] = {}
        self._blind = True
        self.used: dict[str, float] = {}
        """When keys were last used, in seconds since 1970; `serving.token_watch` takes them."""
        self.ended: frozenset[str] = frozenset()
        """Sessions of the page that were signed out, by their ids."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """How often names were refused which verb of those that act; taken likewise."""

    def know(self, tokens: Iterable[Token]) -> None:
        """Take what the database has of tokens now; those left out are refused from here on."""
        known = {}
        for token in tokens:
            if token.revoked_at is not None:
                continue
            known[token.key.encode()] = Caller(
                token.name,
                EVERY if "admin" in token.verbs else frozenset(token.verbs),
                frozenset(token.models) or None,
                token.key,
                bytes.fromhex(token.hash),
                token.expires_at.timestamp() if token.expires_at else float("inf"),
                self._meter(token.name),
            )
        self._known, self._blind = known, False

    def forget(self) -> None:
        """Honour nothing but the administrator's token: what was known is too old."""
        self._known, self._blind = {}, True

    def check(self, header: bytes | None) -> Caller:
        """Whose token an Authorization header carries.

        Raises:
            Unauthorized: none, or one that is unknown, revoked or at its end: one text for all.
            Unavailable: it cannot be known, as the database has been away for too long.
        """
        if header is not None and header[: len(_SCHEME)].lower() == _SCHEME:
            given = header[len(_SCHEME) :].strip()
            caller = self._known.get(given[_KEY], self._root)
            now = self._clock()
            if hmac.compare_digest(sha256(given).digest(), caller.hash) and now < caller.until:
                self.used[caller.key] = now
                return caller
            if self._blind and given.startswith(_MARK):
                raise Unavailable(
                    "Tokens cannot be checked: the database has been away for too long.",
                    remedy="Bring it back; the token of the state folder works meanwhile.",
                )
        raise Unauthorized(
            "The request has no valid token.",
            remedy="Send 'Authorization: Bearer TOKEN', with the token of the state folder or one "
            "that `homeostat token create` made and that has not ended; see docs/access.md.",
        )

    def holder(self, key: str) -> Caller | None:
        """Whose the token of a key is, while that works; an empty key is the administrator's."""
        caller = self._known.get(key.encode()) if key else self._root
        return caller if caller is not None and self._clock() < caller.until else None

    def person(self, name: str, rights: Mapping[str, frozenset[str]]) -> Caller:
        """Who signed in at the provider of the settings.

        Args:
            name: The actor of what they do.
            rights: What they may do with each model that they see.
        """
        verbs = frozenset[str]().union(*rights.values())
        models = frozenset(rights)
        until, meter = float("inf"), self._meter(name)
        return Caller(name, verbs, models, "", b"", until, meter, rights=rights)

    def require(self, caller: Caller, verb: str, model: str) -> None:
        """Let a caller do something with a model.

        Raises:
            UnknownModel: there is no such model, or it is not theirs to know of: one text.
            Forbidden: they may know of it, but not do that.
        """
        if model not in self._models or not caller.sees(model):
            raise unknown_model(model, self.visible(caller))
        self._need(caller, verb, caller.of(model))

    def need(self, caller: Caller, verb: str) -> None:
        """Let a caller do something with whatever is theirs.

        Raises:
            Forbidden: they may not.
        """
        self._need(caller, verb, caller.verbs)

    def _need(self, caller: Caller, verb: str, verbs: frozenset[str]) -> None:
        if verb in verbs:
            return
        if verb in ACTING:
            self.refused[caller.name, verb] += 1
        token = caller.rights is None
        raise Forbidden(
            f"{'The token of ' if token else ''}'{caller.name}' does not have the verb '{verb}'.",
            remedy="Ask who administers this gateway for "
            f"{'a token that has it' if token else 'a grant that gives it'}; see docs/access.md.",
            verb=verb,
            name=caller.name,
        )

    def visible(self, caller: Caller) -> tuple[str, ...]:
        """The models that are a caller's to know of."""
        return tuple(model for model in self._models if caller.sees(model))

    def _meter(self, name: str) -> Meter:
        """One for all secrets of a name, kept while they come and go."""
        found = self._meters.get(name)
        if found is None:
            limits = self._settings
            found = Meter(limits.token_rate, limits.token_burst, limits.token_concurrency)
            self._meters[name] = found
        return found
