"""Tokens in the lifecycle database, SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from homeostat.errors import InputError, Refused
from registry.ledger import lines_of
from registry.ledger_proof import verify_ledger
from registry.tokens import (
    TOKENS,
    create_token,
    hash_of,
    mark_used,
    note_refused,
    revoke_token,
    rotate_token,
    tokens,
    tokens_called,
)

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_secret_is_kept_as_its_hash_and_nowhere_else(session: Session) -> None:
    made, secret = create_token(
        session, "ann", ["label", "read"], ["b", "a"], actor="root", now=NOON, expires_at=NOON + DAY
    )
    assert tokens(session) == [made]
    assert (made.verbs, made.models, made.hash) == (("read", "label"), ("a", "b"), hash_of(secret))
    assert secret.startswith(f"hst_{made.key}_")
    assert len(secret.removeprefix(f"hst_{made.key}_")) == 43  # 256 bits in base 64
    stored = session.execute(text("SELECT * FROM tokens")).all()
    lines = session.execute(text("SELECT * FROM ledger")).all()
    assert secret not in f"{stored}{lines}"
    assert made.works(NOON + DAY - timedelta(seconds=1))
    assert not made.works(NOON + DAY)


def test_a_rotated_token_works_by_both_secrets_until_the_overlap_ends(session: Session) -> None:
    first, _ = create_token(session, "ann", ["read"], [], actor="root", now=NOON)
    second, _ = rotate_token(session, "ann", timedelta(hours=2), actor="root", now=NOON + DAY)
    old, new = tokens_called(session, "ann")
    assert (old.key, new.key) == (first.key, second.key)
    assert (new.verbs, new.expires_at) == (("read",), None)
    during, after = NOON + DAY + timedelta(hours=1), NOON + DAY + timedelta(hours=2)
    assert (old.works(during), new.works(during)) == (True, True)
    assert (old.works(after), new.works(after)) == (False, True)
    rotate_token(session, "ann", timedelta(hours=9), actor="root", now=during)
    assert tokens_called(session, "ann")[0].expires_at == after  # no rotation makes one longer


def test_a_revoked_name_has_no_secret_that_works_and_may_be_made_anew(session: Session) -> None:
    create_token(session, "ann", ["read"], [], actor="root", now=NOON)
    rotate_token(session, "ann", DAY, actor="root", now=NOON)
    with pytest.raises(Refused, match="called 'ann' already"):
        create_token(session, "ann", ["read"], [], actor="root", now=NOON)
    assert len(revoke_token(session, "ann", actor="root", now=NOON)) == 2
    assert not any(one.works(NOON) for one in tokens(session))
    for act in (
        lambda: revoke_token(session, "ann", actor="root", now=NOON),
        lambda: rotate_token(session, "ann", DAY, actor="root", now=NOON),
    ):
        with pytest.raises(Refused, match="No working token is called 'ann'"):
            act()
    create_token(session, "ann", ["read"], [], actor="root", now=NOON)


def test_whatever_is_done_to_a_token_is_in_one_chain(session: Session) -> None:
    made, _ = create_token(session, "ann", ["read"], ["m"], actor="root", now=NOON)
    second, _ = rotate_token(session, "ann", DAY, actor="root", now=NOON)
    note_refused(session, "ann", "promote", 7, NOON)
    revoke_token(session, "ann", actor="bob", now=NOON, reason="she left")
    lines = lines_of(session, TOKENS)
    assert [(one.kind, one.actor) for one in lines] == [
        ("token-create", "root"),
        ("token-rotate", "root"),
        ("refused", "ann"),
        ("token-revoke", "bob"),
        ("token-revoke", "bob"),
    ]
    assert lines[0].evidence == {"name": "ann", "verbs": ["read"], "models": ["m"], "expires": None}
    assert (lines[1].before, lines[1].after) == (made.key, second.key)
    assert (lines[2].evidence, lines[4].reason) == ({"verb": "promote", "times": 7}, "she left")
    assert verify_ledger(session, TOKENS).intact


@pytest.mark.parametrize(
    ("name", "verbs", "end", "says"),
    [
        ("", ["read"], None, "called ''"),
        ("a b", ["read"], None, "called 'a b'"),
        ("rollout", ["read"], None, "called 'rollout'"),
        ("a" * 101, ["read"], None, "called"),
        ("ann", ["reed"], None, "'reed' is not a verb"),
        ("ann", [], None, "needs a verb"),
        ("ann", ["read"], NOON, "ended already"),
    ],
)
def test_what_cannot_be_a_token_is_told(
    session: Session, name: str, verbs: list[str], end: datetime | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        create_token(session, name, verbs, [], actor="root", now=NOON, expires_at=end)


def test_the_last_use_only_moves_forward(session: Session) -> None:
    made, _ = create_token(session, "ann", ["read"], [], actor="root", now=NOON)
    mark_used(session, {made.key: NOON + DAY})
    mark_used(session, {made.key: NOON, "no such": NOON})
    assert tokens(session)[0].used_at == NOON + DAY
