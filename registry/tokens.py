"""Tokens: a named holder, what it may do, with which models, until when.

A secret is 256 bits from the system's generator, shown once and kept as its SHA-256. A slow,
salted hash guards what people choose and others can guess; nobody guesses 256 random bits, so it
would only make each request slow. A secret begins with its key, which is no secret: the row is
found by it, and the hashes are then compared in constant time.

Whatever is done to a token is a line of the ledger of `TOKENS`, which no model can be called.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from homeostat.errors import InputError, Refused
from registry.ledger import hold, record
from registry.statements import columns_of
from registry.tables import TokenRow

TOKENS = "/tokens"  # MLflow takes no slash in a model's name
VERBS = ("read", "predict", "label", "promote", "rollback", "admin")
ACTING = frozenset({"promote", "rollback", "admin"})  # refused attempts at these are audited
MARK = "hst"  # how a secret begins, so that scanners of repositories can find one
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,99}")
_RESERVED = frozenset({"API", "admin", "gateway", "guard", "rollout", "controller", "mlflow"})


@dataclass(frozen=True)
class Token:
    """One secret's row; never the secret.

    Args:
        key: How the secret begins.
        name: Who holds it: the actor of what is done with it.
        hash: SHA-256 of the secret, in hexadecimal digits.
        verbs: Of `VERBS`; `admin` is all of them, overrides and restores.
        models: Which models it is for; empty: all.
        created_at: When.
        created_by: By whom.
        expires_at: From when on it is refused; None: never.
        revoked_at: Since when it is refused; None: it was not revoked.
        used_at: When it was last used, to the minute; None: never.
    """

    key: str
    name: str
    hash: str
    verbs: tuple[str, ...]
    models: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None

    def works(self, now: datetime) -> bool:
        """Whether it lets its holder in."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def can_act(name: str) -> bool:
    """Whether somebody may be called so: the ledger names actors, and parts of ours are some."""
    return bool(_NAME.fullmatch(name)) and name not in _RESERVED


def hash_of(secret: str | bytes) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def create_token(
    session: Session,
    name: str,
    verbs: Collection[str],
    models: Collection[str],
    *,
    actor: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """Make a token; its secret is given back here and nowhere else.

    Args:
        session: Open transaction.
        name: Who is to hold it.
        verbs: What it may do.
        models: With which models; empty: all.
        actor: Who makes it.
        now: When.
        expires_at: When it ends; None: never.

    Raises:
        InputError: a name or a verb that cannot be one, no verb, or an end in the past.
        Refused: a working token has that name.
    """
    if not can_act(name):
        raise InputError(
            f"A token cannot be called '{name}'.",
            remedy="Use up to 100 letters, digits and @ . _ -, and no name of a part of Homeostat.",
        )
    if wrong := set(verbs) - set(VERBS):
        raise InputError(
            f"'{sorted(wrong)[0]}' is not a verb.", remedy=f"Verbs are {', '.join(VERBS)}."
        )
    if not verbs:
        raise InputError("A token needs a verb.", remedy=f"Verbs are {', '.join(VERBS)}.")
    if expires_at is not None and expires_at <= now:
        raise InputError("The token would have ended already.", remedy="Give a later end.")
    hold(session, TOKENS)  # two at once: the second sees what the first made
    if any(one.works(now) for one in tokens_called(session, name)):
        raise Refused(
            f"A working token is called '{name}' already.",
            remedy=f"Rotate it: homeostat token rotate {name}; or revoke it first.",
        )
    ordered = [verb for verb in VERBS if verb in verbs]
    made = _add(session, name, ordered, sorted(set(models)), actor, now, expires_at)
    _note(session, made[0], "create", actor, now, before=None)
    return made


def rotate_token(
    session: Session, name: str, overlap: timedelta, *, actor: str, now: datetime
) -> tuple[Token, str]:
    """Give a token a new secret; the old one works on for `overlap`.

    Raises:
        Refused: no working token has that name.
    """
    old = _working(session, name, now)
    until = now + overlap
    newest = old[-1]
    made = _add(
        session,
        name,
        list(newest.verbs),
        list(newest.models),
        actor,
        now,
        newest.expires_at,
    )
    session.execute(
        update(TokenRow)
        .where(
            TokenRow.key.in_([one.key for one in old]),
            or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > until),
        )
        .values(expires_at=until)
    )
    _note(session, made[0], "rotate", actor, now, before=newest.key)
    return made


def revoke_token(
    session: Session, name: str, *, actor: str, now: datetime, reason: str = ""
) -> list[Token]:
    """Refuse every secret of a name from now on; which they were.

    Raises:
        Refused: no working token has that name.
    """
    old = _working(session, name, now)
    keys = [one.key for one in old]
    session.execute(update(TokenRow).where(TokenRow.key.in_(keys)).values(revoked_at=now))
    for one in old:
        _note(session, one, "revoke", actor, now, before=one.key, reason=reason)
    return old


def tokens(session: Session) -> list[Token]:
    """Every token that ever was, oldest first."""
    return _tokens(session)


def tokens_called(session: Session, name: str) -> list[Token]:
    """Every token of a name, oldest first."""
    return [one for one in _tokens(session) if one.name == name]


def mark_used(session: Session, used: Mapping[str, datetime]) -> None:
    """Note when keys were last used; a later note stands."""
    for key, at in used.items():
        earlier = or_(TokenRow.used_at.is_(None), TokenRow.used_at < at)
        session.execute(update(TokenRow).where(TokenRow.key == key, earlier).values(used_at=at))


def note_refused(session: Session, name: str, verb: str, count: int, now: datetime) -> None:
    """Append to the ledger that a token was refused a verb that it has not."""
    record(
        session,
        TOKENS,
        "refused",
        actor=name,
        reason=f"'{name}' was refused the verb '{verb}'.",
        at=now,
        before=None,
        after=None,
        evidence={"verb": verb, "times": count},
    )


def _add(
    session: Session,
    name: str,
    verbs: list[str],
    models: list[str],
    actor: str,
    now: datetime,
    expires_at: datetime | None,
) -> tuple[Token, str]:
    key = secrets.token_hex(6)
    secret = f"{MARK}_{key}_{secrets.token_urlsafe(32)}"
    row = TokenRow(
        key=key,
        name=name,
        hash=hash_of(secret),
        verbs=verbs,
        models=models,
        created_at=now,
        created_by=actor,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    made = Token(
        key, name, row.hash, tuple(verbs), tuple(models), now, actor, expires_at, None, None
    )
    return made, secret


def _working(session: Session, name: str, now: datetime) -> list[Token]:
    hold(session, TOKENS)
    working = [one for one in tokens_called(session, name) if one.works(now)]
    if not working:
        raise Refused(
            f"No working token is called '{name}'.",
            remedy="See `homeostat token list`; make one with `homeostat token create`.",
        )
    return working


def _note(
    session: Session,
    token: Token,
    what: str,
    actor: str,
    now: datetime,
    *,
    before: str | None,
    reason: str = "",
) -> None:
    models = list(token.models) or "all"
    end = token.expires_at.isoformat() if token.expires_at else None
    record(
        session,
        TOKENS,
        f"token-{what}",
        actor=actor,
        reason=reason or f"homeostat token {what} {token.name}",
        at=now,
        before=before,
        after=None if what == "revoke" else token.key,
        evidence={
            "name": token.name,
            "verbs": list(token.verbs),
            "models": models,
            "expires": end,
        },
    )


def _tokens(session: Session) -> list[Token]:
    query = columns_of(TokenRow).order_by(TokenRow.created_at, TokenRow.key)
    return [
        Token(**{**row, "verbs": tuple(row["verbs"]), "models": tuple(row["models"])})
        for row in session.execute(query).mappings()
    ]
