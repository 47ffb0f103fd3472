"""Who a person is by a provider's claims, and what the settings' grants give them.

Their session names them and the values that grants look at; what those give is looked up in the
settings at each request, so a grant that was taken away gives nothing from the next start on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Any

import msgspec

from homeostat.errors import Forbidden, SignInRefused
from homeostat.setting_tables import Grant, OidcSettings
from registry.tokens import VERBS, can_act
from serving.page.provider import Claims

Rights = dict[str, frozenset[str]]


class Person(msgspec.Struct, frozen=True, array_like=True):
    """Who signed in.

    Args:
        name: The actor of what they do.
        has: Claims and their values, of those that a grant looks at.
    """

    name: str
    has: tuple[tuple[str, str], ...]

    def written(self) -> str:
        """As letters, digits, `-` and `_`: what `read_person` reads."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def read_person(text: str) -> Person | None:
    """What `Person.written` wrote; None: it is none."""
    try:
        return msgspec.json.decode(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Person
        )
    except (binascii.Error, ValueError):
        return None


def person_of(claims: Claims, settings: OidcSettings) -> Person:
    """Who a provider's claims say that somebody is.

    Raises:
        SignInRefused: their name is missing, or nobody can be called so.
    """
    name = _value(claims, settings.name_claim)
    if not isinstance(name, str) or not name:
        unsure = settings.name_claim == "email" and "email" in claims
        raise SignInRefused(
            "The provider does not say that your address of mail is verified."
            if unsure
            else f"The provider does not say who you are: it sent no '{settings.name_claim}'.",
            remedy="Set oidc.name_claim to a claim that it sends, or have it send this one.",
        )
    if not can_act(name):
        raise SignInRefused(
            f"The provider calls you {name[:100]!r}, which nobody can be called here.",
            remedy="Set oidc.name_claim to a claim of up to 100 letters, digits and @ . _ -, "
            "which is no name of a part of Homeostat.",
        )
    pairs = {(grant.claim, grant.value) for grant in settings.grants}
    return Person(name, tuple(sorted(pair for pair in pairs if _has(claims, *pair))))


def rights_of(person: Person, grants: Collection[Grant], models: Collection[str]) -> Rights:
    """What grants let a person do with each model that they may see.

    Args:
        person: Who.
        grants: Of the settings.
        models: All that there are.

    Raises:
        Forbidden: none lets them see anything.
    """
    rights: dict[str, set[str]] = {}
    for grant in grants:
        if (grant.claim, grant.value) in person.has:
            for model in grant.models or models:
                verbs = VERBS if "admin" in grant.verbs else grant.verbs
                rights.setdefault(model, set()).update(verbs)
    seen = {name: frozenset(verbs) for name, verbs in rights.items() if "read" in verbs}
    if not seen:
        raise Forbidden(
            f"The provider knows you as '{person.name}', but nothing here is granted to you.",
            remedy="Ask who administers this gateway for a grant (oidc.grants) to your group.",
            name=person.name,
        )
    return seen


def _has(claims: Claims, claim: str, value: str) -> bool:
    found = _value(claims, claim)
    return value in found if isinstance(found, list) else found == value


def _value(claims: Claims, claim: str) -> Any:  # noqa: ANN401 - whatever the provider sent
    """A claim by its name, or by names with dots between that lead into it."""
    if claim == "email" and claims.get("email_verified") is not True:
        return None
    if claim in claims:
        return claims[claim]
    found: Any = claims
    for name in claim.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
