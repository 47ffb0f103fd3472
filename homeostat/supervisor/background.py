"""`homeostat up --detach` and `homeostat down`: a supervisor in the background."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from homeostat.errors import SettingsError, StartError
from homeostat.settings import PREFIX, Settings
from homeostat.supervisor.environment import settings_environment
from homeostat.supervisor.events import Event, Tell
from homeostat.supervisor.state import UpState, read_state, remove_state
from homeostat.supervisor.supervise import STOP_SECONDS, last_lines

_PAUSE = 0.1


def start(settings: Settings, tell: Tell = lambda _event: None) -> UpState:
    """Bring everything up in the background; returns when it is ready.

    Args:
        settings: What to run, where.
        tell: Hears of everything that happens until then.

    Raises:
        StartError: it did not come up; nothing is left running.
    """
    state_dir = settings.state_dir.resolve()
    log = state_dir / "logs" / "up.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"The state folder {state_dir} cannot be written: {error.strerror}.",
            remedy="Set state_dir (HOMEOSTAT_STATE_DIR) to a folder that can.",
        ) from None
    reading, writing = os.pipe()
    own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = _as_given(settings)
    with os.fdopen(reading, "r") as events, log.open("ab") as output:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "homeostat", "up", "--events-to", str(writing)],
            env=own | given,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(writing,),
        )
        os.close(writing)
        for line in events:
            event = Event.from_json(line)
            tell(event)
            if event.kind == "up":
                state = read_state(state_dir)
                assert state is not None
                return state
            if event.kind == "failed":
                raise _failure(event)
    why = last_lines(log, 1)
    raise StartError(
        f"The supervisor ended while it started{': ' + why[0] if why else '.'}",
        remedy=f"Its log says more: {log}",
    )


def stop(state_dir: Path, seconds: float = STOP_SECONDS + 8.0) -> bool:
    """End the supervisor of a state folder and all it runs; False where none ran.

    Args:
        state_dir: The state folder.
        seconds: What it gets to do so by itself before it is killed (its guard then ends what
            it ran).

    Raises:
        StartError: it could not be ended.
    """
    state_dir = state_dir.resolve()
    state = read_state(state_dir)
    if state is None or not state.is_alive():
        remove_state(state_dir)
        return False
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        deadline = time.monotonic() + patience
        while state.is_alive() and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        if not state.is_alive():
            remove_state(state_dir)
            return True
    raise StartError(
        f"The supervisor (process {state.pid}) does not end.", remedy="Look at its state with ps."
    )


def _as_given(settings: Settings) -> dict[str, str]:
    """The settings as variables, with the addresses empty that `up` is to start."""
    variables = settings_environment(settings)
    variables[f"{PREFIX}MLFLOW_URL"] = settings.mlflow_url
    variables[f"{PREFIX}PREFECT_URL"] = settings.prefect_url
    variables[f"{PREFIX}DATABASE_URL"] = settings.database_url
    return variables


def _failure(event: Event) -> SettingsError:
    kind = StartError if event.code == StartError.code else SettingsError
    return kind(event.text, remedy=event.remedy, log_lines=list(event.log_lines))
