"""The OpenID Connect provider of the settings: where people sign in, and what it says of them.

The authorization code flow with PKCE (RFC 7636), state and nonce, as OpenID Connect Core 1.0 has
it. Who comes back with a code is believed only by an ID token that the provider signs, for us, for
this sign-in, now: joserfc checks the signature by the provider's published keys, and the claims.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from homeostat.errors import SignInRefused, Unavailable
from homeostat.setting_tables import OidcSettings
from monitoring.outbound import Guard, Unanswered, ask

PROVIDER_SECONDS = 5.0  # that a person waits for each answer of the provider
AT_ONCE = 4  # who talks with the provider: a slow one takes no more of the gateway's threads
KEPT_SECONDS = 3600.0  # that its configuration and keys are used
KEYS_SECONDS = 30.0  # between two looks for a key that it did not have
LEEWAY_SECONDS = 60  # that its clock and ours may differ
LONGEST = 1024 * 1024  # bytes of an answer
# What is signed with a key that only the provider has: never `none`, nor a secret that we share.
ALGORITHMS = tuple(f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in (256, 384, 512))
ALGORITHMS += ("EdDSA", "Ed25519")

Claims = Mapping[str, Any]


class Provider:
    """Talks with a provider.

    Args:
        settings: Of signing in.
        redirect: Where the provider sends people back to.
        guard: Which addresses may be called.
        clock: Seconds since 1970.
        fetch: Asks over HTTP, as `monitoring.outbound.ask`.
    """

    def __init__(
        self,
        settings: OidcSettings,
        redirect: str,
        guard: Guard,
        clock: Callable[[], float] = time.time,
        fetch: Callable[..., tuple[int, bytes]] = ask,
    ) -> None:
        self._settings, self._redirect, self._clock = settings, redirect, clock
        host = urlsplit(settings.issuer).hostname or ""  # it was set to be called
        self._guard, self._fetch = Guard((*guard.allowed, host), guard.loopback), fetch
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._metadata: tuple[float, Claims] = (float("-inf"), {})
        self._keys: tuple[float, KeySet] = (float("-inf"), KeySet([]))

    def address(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser goes to sign in.

        Args:
            state: What it comes back with.
            nonce: What the ID token has to have.
            verifier: What only we know; its hash goes along.

        Raises:
            Unavailable: the provider does not answer as one.
            SignInRefused: it is not the one of the settings.
        """
        at = self._endpoint("authorization_endpoint")
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        return f"{at}{'&' if '?' in at else '?'}{urlencode(asked)}"

    def claims(self, code: str, nonce: str, verifier: str) -> Claims:
        """What the provider says of who came back with a code.

        Args:
            code: That they came with.
            nonce: Of this sign-in.
            verifier: Of this sign-in.

        Raises:
            Unavailable: the provider does not answer as one.
            SignInRefused: it does not take the code, or what it says cannot be relied on.
        """
        secret = self._settings.client_secret.get_secret_value()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": verifier,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        endpoint = self._endpoint("token_endpoint")
        methods = self._known().get("token_endpoint_auth_methods_supported")
        if secret and "client_secret_basic" in (methods or ["client_secret_basic"]):
            pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._settings.client_id}
            form |= {"client_secret": secret} if secret else {}
        status, said = self._ask("POST", endpoint, headers, urlencode(form).encode())
        if status != 200:
            raise _refused_code(status, said)
        token = said.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused(
                "The provider sent no ID token.", remedy="Let oidc.scopes have openid."
            )
        claims = self._verified(token, nonce)
        wanted = {self._settings.name_claim, *(one.claim for one in self._settings.grants)}
        if "email" in wanted:
            wanted.add("email_verified")
        if all(claim.partition(".")[0] in claims or claim in claims for claim in wanted):
            return claims
        return self._more(said.get("access_token"), claims)

    def _more(self, token: object, claims: Claims) -> Claims:
        """What the provider says of the same person where the ID token leaves something out."""
        if not isinstance(token, str) or "userinfo_endpoint" not in self._known():
            return claims
        where = self._endpoint("userinfo_endpoint")
        _, more = self._ask("GET", where, {"authorization": f"Bearer {token}"})
        return {**more, **claims} if more.get("sub") == claims["sub"] else claims

    def _verified(self, token: str, nonce: str) -> Claims:
        """The claims of an ID token that says what it has to say."""
        ours = self._settings
        must = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": ours.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": ours.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = self._decoded(token)
            must.validate(claims)
        except (JoseError, ValueError) as error:
            why = str(error) if isinstance(error, JoseError) else "it is no token"
            raise SignInRefused(
                f"The ID token of the provider cannot be relied on: {why}.",
                remedy="Sign in again. If it stays so, compare oidc.issuer and oidc.client_id with "
                "the provider's, and both clocks.",
            ) from None
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else ours.client_id) != ours.client_id:
            raise SignInRefused(
                "The ID token of the provider was made for another client.",
                remedy="Compare oidc.client_id with the provider's.",
            )
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        """The claims of a token that is signed with one of the provider's keys."""
        try:
            return jwt.decode(token, self._signers(KEPT_SECONDS), ALGORITHMS).claims
        except InvalidKeyIdError:  # its keys were changed since
            return jwt.decode(token, self._signers(KEYS_SECONDS), ALGORITHMS).claims

    def _signers(self, seconds: float) -> KeySet:
        """The provider's keys, asked for again where those at hand are older."""
        at, keys = self._keys
        if self._clock() - at >= seconds:
            where = self._endpoint("jwks_uri")
            _, said = self._ask("GET", where)
            try:
                keys = KeySet.import_key_set({"keys": said["keys"]})
            except (JoseError, KeyError, TypeError, ValueError):
                raise _no_provider(where, "it gives no keys") from None
            self._keys = self._clock(), keys
        return keys

    def _endpoint(self, name: str) -> str:
        """An address of the provider's, as it gives it."""
        address = self._known().get(name)
        safe = urlsplit(self._settings.issuer).scheme == "http"  # the loopback's, by the settings
        if isinstance(address, str) and (address.startswith("https://") or safe):
            return address
        raise _no_provider(self._settings.issuer, f"it gives no {name} of https")

    def _known(self) -> Claims:
        """What the provider says of itself."""
        at, metadata = self._metadata
        if self._clock() - at >= KEPT_SECONDS:
            issuer = self._settings.issuer
            _, metadata = self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if metadata.get("issuer") != issuer:
                raise SignInRefused(
                    f"The provider at {issuer} calls itself {str(metadata.get('issuer'))[:200]!r}.",
                    remedy="Set oidc.issuer to exactly what it calls itself, if that is the one.",
                )
            self._metadata = self._clock(), metadata
        return metadata

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of an answer; a GET has to be answered with 200."""
        if not self._places.acquire(blocking=False):
            raise Unavailable(
                "Too many people sign in at once.", remedy="Sign in again in some seconds."
            )
        try:
            sent = {"accept": "application/json"} | dict(headers or {})
            status, said = self._fetch(
                method, url, self._guard, PROVIDER_SECONDS, sent, body, LONGEST
            )
            found = msgspec.json.decode(said)
        except Unanswered as error:
            raise _no_provider(url, str(error)) from None
        except msgspec.DecodeError:
            raise _no_provider(url, f"it answered {status}, and no JSON") from None
        finally:
            self._places.release()
        if not isinstance(found, dict) or (method == "GET" and status != 200):
            raise _no_provider(url, f"it answered {status}")
        return status, found


def challenge_of(verifier: str) -> str:
    """What goes before a verifier: its SHA-256, as RFC 7636 has it."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def error_code(text: str) -> str:
    """The code of an OAuth error, such as access_denied; empty: it is none, and not to be shown."""
    plain = text.isascii() and text.replace("_", "").isalpha() and len(text) <= 40
    return text if plain else ""


def _no_provider(url: str, why: str) -> Unavailable:
    return Unavailable(
        f"The provider that people sign in at cannot be used: {url.partition('?')[0]}: {why}.",
        remedy="Sign in with a token meanwhile; see oidc.issuer in the settings.",
    )


def _refused_code(status: int, said: Claims) -> SignInRefused:
    """The provider's refusal of a code, by the code of its error alone."""
    shown = error_code(str(said.get("error"))) or str(status)
    if shown in ("invalid_client", "unauthorized_client"):
        remedy = "Compare oidc.client_id and oidc.client_secret with the provider's."
    else:
        remedy = "Sign in again: a code works once, and for some minutes."
    return SignInRefused(
        f"The provider does not take what it sent you back with ({shown}).", remedy=remedy
    )
