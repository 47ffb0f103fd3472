"""A trace goes through every route for predictions, the short way and the long one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.integration.protocols.conftest import Server

AUTH = {"Authorization": "Bearer the-token"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ROW = [0.0] * 64
TENSOR = {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": ROW}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/digits/predict", {"row": ROW}, 200),
        ("/v1/models/digits/predict", {"row": []}, 422),
        ("/v1/models/nope/predict", {"row": ROW}, 404),
        ("/v2/models/digits/infer", {"inputs": [TENSOR]}, 200),
        ("/v2/models/digits/infer", {}, 400),
        ("/v1/models/digits/batch", {}, 415),
        ("/v1/labels", {"labels": []}, 200),
    ],
)
def test_an_answer_goes_on_with_the_trace_of_its_request(
    server: Server, path: str, body: object, status: int
) -> None:
    with httpx.Client(base_url=f"http://{server.host}", headers=AUTH, trust_env=False) as client:
        spans = set()
        for _ in range(2):  # a head that is known by its bytes is traced as well
            answer = client.post(
                path,
                content=json.dumps(body),
                headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=b"},
            )
            assert answer.status_code == status
            version, trace, span, flags = answer.headers["traceparent"].split("-")
            assert (version, trace, flags) == ("00", TRACE, "01")
            spans.add(span)
        assert len(spans | {SPAN}) == 3
        for bad in ("", "00-nonsense", f"ff-{TRACE}-{SPAN}-01"):
            answer = client.post(path, content=json.dumps(body), headers={"traceparent": bad})
            assert (answer.status_code, "traceparent" in answer.headers) == (status, False)


def test_the_metrics_name_traces_where_open_metrics_are_asked_for(server: Server) -> None:
    with httpx.Client(base_url=f"http://{server.host}", headers=AUTH, trust_env=False) as client:
        sent = {"traceparent": f"00-{'c' * 32}-{SPAN}-01"}
        path = "/v1/models/digits/predict"
        both = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
        for _ in range(100):  # one whose time is not at the bound of a bucket
            assert client.post(path, json={"row": ROW}, headers=sent).status_code == 200
            rich = client.get("/metrics", headers=both)
            shown = [line for line in rich.text.splitlines() if "c" * 32 in line]
            if shown:
                break
        plain = client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain")
        assert "trace_id" not in plain.text
        assert rich.headers["content-type"].startswith("application/openmetrics-text")
        assert rich.text.endswith("# EOF\n")
        assert len(shown) == 1
        assert shown[0].startswith('homeostat_predict_seconds_bucket{le="')
