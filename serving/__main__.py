"""Run the gateway: `python -m serving`, or one of several on one port: `--replica 1` and so on."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from types import FrameType

import uvicorn

from homeostat.errors import SettingsError
from homeostat.settings import get_settings
from serving.app import create_app
from serving.draining import DrainingServer
from serving.listening import open_sockets
from serving.patience import Limits
from serving.protocol import protocol_of

DRAIN_SECONDS = 4  # for requests under way, when the process is asked to end


def main() -> int:
    """Serve until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--replica", type=int, default=0, help="which of several; 0: the only one")
    replica: int = parser.parse_args().replica
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = get_settings()
        sockets = open_sockets(settings, replica)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The gateway cannot listen on {settings.host}: {error}", file=sys.stderr)
        return 3
    # uvicorn drains first and then raises the signal again: by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)
    app = create_app(settings)
    limits = Limits(
        settings.header_seconds,
        settings.body_seconds,
        settings.max_header_bytes,
        settings.max_headers,
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol_of(app.gateway.predictor, limits, app.gateway.leaving),
        ws="none",
        proxy_headers=False,  # nothing here asks who calls but by the token
        access_log=False,
        log_level="warning",
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        date_header=False,
        backlog=2048,
    )
    server = DrainingServer(config, app.gateway.leaving, settings.drain_seconds)
    server.run(sockets=sockets)
    return 0 if server.started else 3


def _note(number: int, _: FrameType | None) -> None:
    logging.getLogger(__name__).info("ended by %s", signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
