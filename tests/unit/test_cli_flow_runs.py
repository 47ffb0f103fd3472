"""How the command line talks to Prefect's server."""

from __future__ import annotations

import httpx
import pytest

from homeostat.commands import flow_runs
from homeostat.errors import Unavailable


def _client(answers: list[int]) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(answers.pop(0), json={"path": request.url.path})

    return httpx.Client(base_url="http://prefect/api", transport=httpx.MockTransport(answer))


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_runs, "_PAUSE", 0.0)
    answers = [503, 503, 200]
    assert flow_runs._call(_client(answers), "GET", "/flow_runs/1") == {"path": "/api/flow_runs/1"}
    assert not answers


def test_a_server_that_stays_busy_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_runs, "_BUSY_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="503"):
        flow_runs._call(_client([503]), "GET", "/flow_runs/1")
