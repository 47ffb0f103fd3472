from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from homeostat.demo import story
from homeostat.demo.stage import Stage


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_stops_its_servers_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    ran: list[str] = []
    before = signal.getsignal(number)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the demo sets its own variables
    monkeypatch.setattr(Stage, "command", lambda _stage, *words: ran.append(words[0]))
    monkeypatch.setattr("homeostat.demo.acts.train", lambda _: os.kill(os.getpid(), number))

    with pytest.raises(SystemExit) as ended:
        story.run(tmp_path / "demo")

    assert ended.value.code == 128 + number
    assert ran == ["up", "down"]
    assert signal.getsignal(number) == before
