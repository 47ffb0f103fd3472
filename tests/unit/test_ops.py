"""Prometheus' rules and Grafana's board are about metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import HistogramMetricFamily

from serving.metrics import Metrics

OPS = Path(__file__).resolve().parents[2] / "docs" / "ops"
RULES, BOARD = OPS / "homeostat.rules.yml", OPS / "grafana.json"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool: apt install prometheus"
)
EVERYWHERE = {"job", "instance", "le"}

# One gateway that goes down, another model's traffic that differs: what fires, and when.
CASES = """
rule_files: [RULES]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {series: 'up{job="homeostat", instance="a"}', values: '1x8 0x20'}
      - {series: 'homeostat_controller_lease{job="homeostat", instance="a"}', values: '1x60'}
      - {series: 'homeostat_agrees{model="digits", what="traffic"}', values: '1x8 0x40'}
      - {series: 'homeostat_alerts_waiting', values: '0x8 3x40'}
      - {series: 'homeostat_requests_total{model="digits", outcome="ok"}', values: '0+100x60'}
      - {series: 'homeostat_requests_total{model="digits", outcome="internal"}', values: '0+2x60'}
    alert_rule_test:
      - {eval_time: 2m, alertname: HomeostatDown, exp_alerts: []}
      - {eval_time: 2m, alertname: HomeostatTrafficDiffers, exp_alerts: []}
      - {eval_time: 5m, alertname: HomeostatNobodyActs, exp_alerts: []}
    promql_expr_test:
      - expr: count(ALERTS{alertstate="firing", alertname="HomeostatDown", instance="a"})
        eval_time: 4m
        exp_samples: [{labels: '{}', value: 1}]
      - expr: count(ALERTS{alertstate="firing", alertname="HomeostatTrafficDiffers"})
        eval_time: 6m
        exp_samples: [{labels: '{}', value: 1}]
      - expr: count(ALERTS{alertstate="firing", alertname="HomeostatAlertsWait"})
        eval_time: 8m
        exp_samples: [{labels: '{}', value: 1}]
      - expr: count(ALERTS{alertstate="firing", alertname="HomeostatErrors"})
        eval_time: 10m
        exp_samples: [{labels: '{}', value: 1}]
"""


def expressions() -> Iterator[str]:
    """Every expression of both files."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    board = json.loads(BOARD.read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    yield from (one["expr"] for one in board["annotations"]["list"])
    yield from (
        one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"
    )


def known() -> dict[str, set[str]]:
    """Each metric as Prometheus stores it, and its labels."""
    metrics = Metrics()
    found: dict[str, set[str]] = {}
    for name, collector in vars(metrics).items():
        if name == "registry":
            continue
        labels = set(getattr(collector, "_labelnames", ("model",)))
        for family in collector.collect():
            ends = [""]
            if isinstance(family, HistogramMetricFamily) or family.type == "histogram":
                ends = ["_bucket", "_sum", "_count"]
            elif family.type == "counter":
                ends = ["_total"]
            found |= {f"{family.name}{end}": labels for end in ends}
    return found


def names_of(expression: str) -> set[str]:
    return set(re.findall(r"homeostat_[a-z_]+", expression))


def labels_of(expression: str) -> set[str]:
    inside = re.findall(
        r"\b([a-z_]+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"{[^}]*}", expression))
    )
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    return set(inside) | {one.strip() for names in grouped for one in names.split(",")}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_a_rule_or_panel_is_about_metrics_and_labels_that_there_are(expression: str) -> None:
    metrics = known()
    names = names_of(expression)
    assert names <= metrics.keys()
    allowed = EVERYWHERE.union(*(metrics[name] for name in names))
    assert labels_of(expression) <= allowed


def test_a_metric_that_is_none_is_found() -> None:
    assert names_of("rate(homeostat_predictions[5m])") - known().keys()
    assert labels_of('sum by (model, colour) (x{arm="a"})') == {"model", "colour", "arm"}


def test_every_outcome_that_a_rule_names_is_one() -> None:
    from homeostat.commands.exits import BY_ERROR

    named: set[str] = set()
    for expression in expressions():
        for value in re.findall(r'outcome=~?"([^"]*)"', expression):
            named |= set(value.split("|"))
    assert named <= BY_ERROR.keys() | {"ok"}


def test_every_rule_says_how_grave_it_is_and_where_to_look() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert (OPS.parents[1] / rule["annotations"]["runbook"]).is_file()


def test_the_board_has_a_place_and_a_title_for_each_panel() -> None:
    panels: list[dict[str, Any]] = json.loads(BOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["title"] for panel in panels} - {""}) == len(panels)


@needs_promtool
def test_promtool_takes_the_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yml"
    cases.write_text(CASES.replace("RULES", str(RULES)))
    config = OPS / "prometheus.yml"
    for words in (
        ["check", "rules", str(RULES)],
        ["check", "config", str(config)],
        ["test", "rules", str(cases)],
    ):
        done = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
