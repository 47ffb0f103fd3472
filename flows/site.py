"""The servers and the database that a flow works with, opened once at its edge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from flows.runs import TIMEOUT, Runs
from homeostat.settings import Settings
from registry.database import check_schema, connect, sessions, transaction
from registry.versions import MlflowVersions


class Site:
    """One installation as a flow sees it.

    Args:
        settings: Of the installation.
        engine: Of the lifecycle database.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.versions = MlflowVersions(settings.mlflow_address, timeout=TIMEOUT)
        self.runs = Runs(settings.mlflow_address)
        self.engine = engine
        self._sessions = sessions(engine)

    def close(self) -> None:
        """Close all connections."""
        self.runs.close()
        self.versions.close()
        self.engine.dispose()

    @property
    def cache(self) -> Path:
        """Where fetched versions are kept, shared with the gateway."""
        return self.settings.state_dir / "versions"

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        with transaction(self._sessions) as session:
            yield session


@contextlib.contextmanager
def open_site(settings: Settings) -> Iterator[Site]:
    """Open the installation of the settings for the length of a flow.

    Raises:
        Unavailable: the database is away or of another schema.
    """
    site = Site(settings, connect(settings.database))
    try:
        check_schema(site.engine)
        yield site
    finally:
        site.close()


def use_one_thread() -> None:
    """Keep torch to one thread: the cores are shared, and the same bits come out every time."""
    import torch  # not at the top: the process that only serves deployments needs none

    torch.set_num_threads(1)
