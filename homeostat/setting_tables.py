"""The tables of the settings that are about one thing each: the log, alerts, signing in."""

from __future__ import annotations

import base64
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class LogSettings(BaseModel):
    """The prediction log: what an answer waits for, and what becomes of it where it cannot."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    durability: Literal["strict", "relaxed"] = "strict"
    """`strict`: an answer leaves once the operating system has its entry, so `kill -9` loses
    none. `relaxed`: entries are written in groups behind the answers; `kill -9` may lose what
    docs/prediction-log.md says.
    """
    when_full: Literal["refuse", "unlogged"] = "refuse"
    """What becomes of predictions that the log cannot take (`max_spool_bytes` reached, disk full):
    503 with Retry-After, or answered without being logged, counted and told to on-call.
    """
    keep_days: Annotated[float, Field(ge=0)] = 0
    """How old predictions may get, with their labels; 0: any age. What is needed stays longer:
    docs/prediction-log.md says what.
    """
    keep_bytes: Annotated[int, Field(ge=0)] = 0
    """What the rows of one model's predictions may take, about; the oldest go first. 0: any."""


class AlertingSettings(BaseModel):
    """How alerts leave; where they go is each model's `alerts`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    runbooks_url: str = ""
    """Where docs/runbooks is published: each alert links the page of its kind there, such as
    https://wiki.example.org/homeostat/loss.md; empty: it names the path in the repository.
    """
    page_url: str = ""
    """Where people reach the gateway's page: each alert links the incident there; empty: the
    address of the gateway's routes that act, as this machine has it.
    """
    allow_hosts: tuple[str, ...] = ()
    """Which receivers of alerts may be in a private network: names (`am.example.org`, or
    `.svc.cluster.local` for all below it), addresses, networks (`10.0.0.0/8`). Others must be of
    the public internet; this machine too may be called as long as `host` is the loopback.
    """
    webhook_secret: SecretStr = SecretStr("")
    """What webhooks are signed with, as Standard Webhooks says: `whsec_` and 24 to 64 random bytes
    in base64 (`echo whsec_$(openssl rand -base64 32)`); empty: they are not signed.
    """
    pagerduty_url: str = "https://events.pagerduty.com"
    """The base address of PagerDuty's Events API; of its European region:
    https://events.eu.pagerduty.com.
    """

    @field_validator("webhook_secret")
    @classmethod
    def _is_secret(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        try:
            length = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
        except ValueError:
            length = 0
        if text and not (text.startswith("whsec_") and 24 <= length <= 64):
            raise ValueError("it has to be whsec_ and 24 to 64 bytes in base64")
        return value


class Grant(BaseModel):
    """What people may do whose claim has a value. Who has several grants has all that they give."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    value: Annotated[str, Field(min_length=1)]
    """What the claim has to be or, where it is a list, to have in it: the name of a group."""
    claim: Annotated[str, Field(min_length=1)] = "groups"
    """The claim of the ID token; a dot leads into one (`realm_access.roles`). An `email` counts
    only where the provider says that it is verified.
    """
    verbs: tuple[Literal["read", "promote", "rollback", "admin"], ...] = ("read",)
    """What they may do, as a token's verbs. Nobody sees a model without `read` of it or `admin`."""
    models: tuple[str, ...] = ()
    """With which models; empty: with all."""


class OidcSettings(BaseModel):
    """Signing in to the page at an OpenID Connect provider, besides tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    issuer: str = ""
    """The provider's address, exactly as its own `/.well-known/openid-configuration` gives it;
    empty: people sign in by token alone.
    """
    client_id: str = ""
    """What the provider calls this installation. Its redirect address to give there is
    `alerting.page_url` (else the address of the page on this machine) and
    `/page/sign-in/oidc/done`.
    """
    client_secret: SecretStr = SecretStr("")
    """The secret that the provider gave with it; empty: a public client, guarded by PKCE alone."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """What is asked for; add what your provider wants for groups."""
    name_claim: Annotated[str, Field(min_length=1)] = "email"
    """The claim that names the person: the actor in the ledger. Take one that people cannot change
    themselves.
    """
    label: Annotated[str, Field(min_length=1)] = "single sign-on"
    """What the button says after "Sign in with"."""
    session_hours: Annotated[float, Field(gt=0, le=24)] = 12
    """How long a session lasts that was begun so; whom the provider lets go keeps it until then."""
    grants: tuple[Grant, ...] = ()
    """`[[oidc.grants]]`: who may do what. Without one nobody gets in."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        at = urlsplit(self.issuer)
        local = at.hostname in ("localhost", "127.0.0.1", "::1")
        if self.issuer and not (at.scheme == "https" or (at.scheme == "http" and local)):
            raise ValueError("issuer has to be an https address (http on the loopback alone)")
        if self.issuer and not self.client_id:
            raise ValueError("client_id is missing: the provider gives it")
        if "openid" not in self.scopes:
            raise ValueError("scopes have to have openid")
        return self
