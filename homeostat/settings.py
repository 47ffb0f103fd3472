"""The settings: one frozen class, one homeostat.toml, environment variables above it."""

from __future__ import annotations

import contextlib
import difflib
import functools
import ipaddress
import os
import secrets
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from homeostat.errors import SettingsError, UnknownModel
from homeostat.policy import Policy
from homeostat.setting_tables import AlertingSettings, LogSettings, OidcSettings

PREFIX = "HOMEOSTAT_"
CONFIG_FILE = "homeostat.toml"
SECRETS = ("secret", "token")  # how the names of settings end that no error may show
ADMIN_PORT = 8100  # where the gateway listens beyond the loopback

Port = Annotated[int, Field(ge=1, le=65_535)]


class Settings(BaseSettings):
    """What this installation is set to.

    An address or database that is given is used and never started; where it is empty, `up`
    starts an embedded one under `state_dir`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,  # the text below each field is in docs/settings.md
    )

    state_dir: Path = Path(".homeostat")
    """Where everything is kept: databases, artifacts, logs, the token."""
    host: str = "127.0.0.1"
    """What the servers that `up` starts listen on."""
    gateway_port: Port = 8000
    """The gateway's port."""
    gateway_replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """How many gateway processes `up` starts. Several share gateway_port; the first also listens on
    gateway_port + 1 by itself, the second on gateway_port + 2, and so on: for its own health and
    metrics.
    """
    gateway_admin_host: str = "127.0.0.1"
    """What the gateway's routes that act (promote, roll back, override, restore, approve) listen
    on, where they have a port of their own.
    """
    gateway_admin_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Their port, which has all other routes as well. 0: gateway_port as long as host is the
    loopback, and 8100 beyond it.
    """
    mlflow_port: Port = 5000
    """The port of the MLflow server that `up` starts."""
    prefect_port: Port = 4200
    """The port of the Prefect server that `up` starts."""
    mlflow_url: str = ""
    """The address of an MLflow server that runs already; empty: `up` starts one."""
    prefect_url: str = ""
    """The API address, ending in /api, of a Prefect server that runs already; empty: `up` starts
    one.
    """
    database_url: str = ""
    """The SQLAlchemy URL of the lifecycle database, SQLite or PostgreSQL; empty: SQLite in the
    state folder.
    """
    token: SecretStr = SecretStr("")
    """The gateway's bearer token; empty: made at the first `up`, kept in the file token of the
    state folder.
    """
    webhook_secret: SecretStr = SecretStr("")
    """What MLflow signs its webhook with, which then wakes the controller; empty: there is no
    such route, and polling alone sees what moved.
    """
    telemetry: bool = False
    """Whether the parts (MLflow, Prefect, Evidently) may report their use to their makers."""
    tracing: str = ""
    """Where spans of traced predictions go: the address of an OTLP collector (HTTP, protobuf), such
    as http://collector:4318/v1/traces; empty: nowhere. `traceparent` is answered in any case.
    """
    max_body_bytes: Annotated[int, Field(gt=0)] = 8 * 1024 * 1024
    """The largest body of a request that the gateway takes."""
    keep_alive_seconds: Annotated[int, Field(gt=0)] = 75
    """How long a connection may be quiet between two requests. Let it be longer than your
    balancer's or client's own limit: who closes last never closes on a request under way.
    """
    max_rows: Annotated[int, Field(gt=0)] = 4096
    """The most rows of one request."""
    max_elements: Annotated[int, Field(gt=0)] = 1_000_000
    """The most values in the rows of one request: rows times columns, however they are nested."""
    max_header_bytes: Annotated[int, Field(gt=0)] = 32 * 1024
    """The largest head of a request, all headers together."""
    max_headers: Annotated[int, Field(gt=0)] = 100
    """The most headers of a request."""
    header_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long the head of a request may take to come, and a new connection to say anything."""
    body_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How long a request may take to come whole, and a client to read its answer."""
    drain_seconds: Annotated[float, Field(ge=0)] = 0.5
    """How long a gateway that was asked to end still takes connections, unready, so that balancers
    and clients turn away by themselves.
    """
    max_queue_ms: Annotated[float, Field(ge=0)] = 100
    """How long a request for predictions may wait and be worked on, in milliseconds: beyond it
    requests get 429 with Retry-After before they cost anything. Where one request alone takes
    more than a quarter of it, four times that counts; 0: nothing is refused.
    """
    max_batch_rows: Annotated[int, Field(gt=0)] = 100_000
    """The most rows of one Arrow or Parquet table."""
    max_batch_bytes: Annotated[int, Field(gt=0)] = 64 * 1024 * 1024
    """The largest Arrow or Parquet table that the gateway takes."""
    token_rate: Annotated[float, Field(ge=0)] = 0
    """How many requests a second each token that was made here may send; 0: any number."""
    token_burst: Annotated[int, Field(ge=0)] = 0
    """How many it may send at once after a pause; 0: as many as in a second."""
    token_concurrency: Annotated[int, Field(ge=0)] = 0
    """How many of its requests may be under way at a time; 0: any number."""
    token_grace_seconds: Annotated[float, Field(ge=0)] = 3600
    """How long tokens that were made here are honoured while the database is away."""
    max_spool_bytes: Annotated[int, Field(gt=0)] = 1024**3
    """What the prediction log may take on disk while the database is away; beyond it
    `log.when_full` says what becomes of predictions.
    """
    log: LogSettings = LogSettings()
    """The prediction log."""
    alerting: AlertingSettings = AlertingSettings()
    """How alerts leave."""
    oidc: OidcSettings = OidcSettings()
    """Signing in to the page at an OpenID Connect provider."""
    poll_seconds: Annotated[float, Field(gt=0)] = 1.0
    """How often the controller reads MLflow's aliases."""
    models: dict[str, Policy] = Field(default_factory=lambda: {"digits": Policy()})
    """One table for each model, `[models.NAME]`: its policy."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file; nothing else is read."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_path())
        return init_settings, env_settings, toml

    @model_validator(mode="after")
    def _grants_are_of_models(self) -> Self:
        named = {model for grant in self.oidc.grants for model in grant.models}
        if wrong := sorted(named - set(self.models)):
            raise ValueError(f"a grant of oidc is for the model '{wrong[0]}', which has no table")
        return self

    @property
    def mlflow_address(self) -> str:
        """The address of MLflow, given or embedded."""
        return self.mlflow_url or f"http://{self.host}:{self.mlflow_port}"

    @property
    def prefect_address(self) -> str:
        """The address of Prefect's API, given or embedded."""
        return self.prefect_url or f"http://{self.host}:{self.prefect_port}/api"

    @property
    def gateway_address(self) -> str:
        """The address of the gateway."""
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def admin_port(self) -> int:
        """The port of the routes that act; 0: the gateway's own."""
        return self.gateway_admin_port or (0 if is_loopback(self.host) else ADMIN_PORT)

    @property
    def gateway_admin_address(self) -> str:
        """The address that has the routes that act."""
        if port := self.admin_port:
            return f"http://{self.gateway_admin_host}:{port}"
        return self.gateway_address

    @property
    def page_address(self) -> str:
        """Where people reach the page of on-call."""
        return (self.alerting.page_url or self.gateway_admin_address).rstrip("/")

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the lifecycle database, given or embedded."""
        return self.database_url or f"sqlite:///{self.state_dir.resolve() / 'lifecycle.db'}"

    def policy(self, model: str) -> Policy:
        """The policy of a model.

        Raises:
            UnknownModel: no `[models.NAME]` table has that name.
        """
        try:
            return self.models[model]
        except KeyError:
            known = ", ".join(sorted(self.models)) or "none"
            raise UnknownModel(
                f"There is no model '{model}' here; known: {known}.",
                remedy=f"Add a [models.{model}] table to {CONFIG_FILE}.",
                model=model,
            ) from None

    def secret_token(self) -> str:
        """The token of the gateway: as set, or the one that the state folder keeps from now on."""
        if known := self.known_token():
            return known
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.state_dir) as made:  # its owner's alone
            made.write(secrets.token_urlsafe(32))
            made.flush()
            with contextlib.suppress(FileExistsError):  # somebody else's was first, and is whole
                os.link(made.name, self._token_path)
        return self.known_token()

    def known_token(self) -> str:
        """That token, for who asks a gateway; empty: no gateway has begun in the state folder."""
        if given := self.token.get_secret_value():
            return given
        try:
            return self._token_path.read_text().strip()
        except FileNotFoundError:
            return ""

    @property
    def _token_path(self) -> Path:
        return self.state_dir / "token"


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's own, which no other one reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def config_path() -> Path:
    """Where the settings file is: HOMEOSTAT_CONFIG, else homeostat.toml in this folder."""
    return Path(os.environ.get(f"{PREFIX}CONFIG", CONFIG_FILE))


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - any field's value
    """Read the settings.

    Raises:
        SettingsError: a wrong key (with the nearest right one), a wrong value, or a file
            that is not TOML.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_explain(error), remedy=f"Mend {config_path()} or {PREFIX}*.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{config_path()} is not valid TOML: {error}.", remedy="Mend that line."
        ) from None


@functools.cache
def get_settings() -> Settings:
    """The settings of this process, read once, for the edges (routes, flows, commands)."""
    return load_settings()


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    for name in os.environ:
        if not name.upper().startswith(PREFIX):
            continue
        if name.upper().split("__")[0] not in known:
            raise SettingsError(
                f"The environment variable {name} sets nothing.{_nearest(name, known)}",
                remedy="Unset it or correct its name.",
            )


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *path, wrong = (str(part) for part in first["loc"])
        return f"The key '{place}' is not a setting.{_nearest(wrong, _known_keys(path))}"
    if isinstance(first["input"], dict):  # a table may hold a secret
        return f"The table '{place or 'settings'}': {first['msg']}."
    secret = place.endswith(SECRETS) or ".alerts." in place  # addresses hold keys
    shown = "***" if secret else repr(first["input"])
    return f"The setting '{place}' is {shown}: {first['msg']}."


def _known_keys(path: list[str]) -> set[str]:
    """The keys of the table at a path; a step below a dict of tables is a name, not a key."""
    table: type[BaseModel] = Settings
    named: type[BaseModel] | None = None  # what each value of the dict that we are in is
    for step in path:
        if named is not None:
            table, named = named, None
            continue
        field = table.model_fields.get(step)
        annotation = field.annotation if field else None
        if get_origin(annotation) is dict:
            named = get_args(annotation)[1]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            table = annotation
        elif get_origin(annotation) is tuple:
            table = _table_in(annotation) or table
    return set(table.model_fields)


def _table_in(annotation: object) -> type[BaseModel] | None:
    """The table that an element of a list may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)


def _nearest(wrong: str, known: set[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(sorted(known))}."
