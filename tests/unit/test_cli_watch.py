"""What `homeostat watch` makes of what the gateway says."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from rich.console import Console

from homeostat.commands.watch import Frame, figures_of, screen

METRICS = """
# TYPE homeostat_predictions counter
homeostat_predictions_total{arm="champion",model="digits",version="1"} %d
homeostat_predictions_total{arm="canary",model="digits",version="2"} 10
homeostat_predictions_total{arm="champion",model="other",version="1"} 9999
# TYPE homeostat_evidence gauge
homeostat_evidence{detector="loss",model="digits"} 6.0
homeostat_evidence{detector="input-drift",model="digits"} 1.0
# TYPE homeostat_evidence_threshold gauge
homeostat_evidence_threshold{detector="loss",model="digits"} 12.0
homeostat_evidence_threshold{detector="input-drift",model="digits"} 12.0
# TYPE homeostat_estimated_accuracy gauge
homeostat_estimated_accuracy{model="digits",what="low"} 0.9
homeostat_estimated_accuracy{model="digits",what="estimate"} 0.95
homeostat_estimated_accuracy{model="digits",what="high"} 0.97
"""
MODEL = {
    "model": "digits",
    "routing": {
        "champion": 1,
        "challenger": 2,
        "standby": None,
        "phase": "canary",
        "canary_share": 0.2,
    },
    "agreement": {"state": "proven", "differs": ""},
}
INCIDENT = {
    "title": "digits:1: accuracy fell",
    "opened_at": "2026-11-26T03:00:00+00:00",
    "severity": "page",
    "state": "open",
    "events": [{"at": "2026-11-26T03:00:00+00:00", "text": "loss: it rose."}],
    "undo": "homeostat rollback digits --reason 'why'",
    "runbook": "docs/runbooks/loss.md",
}


def shown(frame: Frame, before: Frame | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(screen(frame, before))
    return out.getvalue()


def test_a_frame_says_who_serves_how_much_and_what_is_wrong() -> None:
    before = Frame(10.0, [MODEL], [], [], figures_of(METRICS % 100))
    text = shown(Frame(12.0, [MODEL], [], [INCIDENT], figures_of(METRICS % 150)), before)
    (line,) = (one for one in text.splitlines() if one.startswith("digits  "))
    said = "digits 1 2 (canary 20%) - yes 25.0 0.950 (0.90-0.97) loss 50%"
    assert " ".join(line.split()) == said
    assert "page  digits:1: accuracy fell  open, since 2026-11-26 03:00:00 UTC" in text
    assert "undo: homeostat rollback digits --reason 'why'" in text
    assert "runbook: docs/runbooks/loss.md" in text


def test_before_anything_serves_there_is_nothing_to_say() -> None:
    empty = {"model": "digits", "routing": None, "agreement": None}
    text = shown(Frame(1.0, [empty], [], [], {}))
    assert "digits  -       -         -        -       ...     -         -" in text
    assert "none" in text


def test_a_gateway_that_went_away_leaves_its_last_frame_and_says_so() -> None:
    frame = Frame(1.0, [MODEL], [], [], {}, trouble="The gateway does not answer.")
    assert "The gateway does not answer. What is shown is old." in shown(frame)


def test_traffic_that_differs_and_several_gateways_are_shown() -> None:
    differs = MODEL | {"agreement": {"state": "differs", "differs": "traffic"}}
    gateways = [
        {"host": "a", "pid": n, "state": "live", "seen_at": "2026-11-26T03:00:00"} for n in (1, 2)
    ]
    text = shown(Frame(1.0, [differs], gateways, [], {}))
    assert "NO: traffic" in text
    assert "a/2" in text


def test_a_shell_completes_our_commands() -> None:
    asked = {
        "_HOMEOSTAT_COMPLETE": "complete_bash",
        "COMP_WORDS": "homeostat inc",
        "COMP_CWORD": "1",
    }
    script = "import homeostat.cli; homeostat.cli.app(args=[], prog_name='homeostat')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | asked,
    )
    assert done.stdout.split() == ["incidents"], done.stderr
