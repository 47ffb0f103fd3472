"""Run the gateway: `python -m serving`."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

import uvicorn

from homeostat.errors import SettingsError
from homeostat.settings import get_settings
from serving.app import create_app
from serving.protocol import protocol_of

DRAIN_SECONDS = 4  # for requests under way, when the process is asked to end


def main() -> int:
    """Serve until told to stop; the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = get_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    # uvicorn drains first and then raises the signal again: by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)
    app = create_app(settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.gateway_port,
        loop="uvloop",
        http=protocol_of(app.gateway.predictor),
        ws="none",
        proxy_headers=False,  # nothing here asks who calls but by the token
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        date_header=False,
        backlog=2048,
    )
    return 0


def _note(number: int, _: FrameType | None) -> None:
    logging.getLogger(__name__).info("ended by %s", signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
