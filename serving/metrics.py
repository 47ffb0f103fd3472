"""What the gateway tells Prometheus. One registry per gateway; nothing global."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Exemplar, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

MEDIA = ("text/plain", "application/openmetrics-text")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Spread(Collector):
    """A histogram by model, fed by the answering thread alone.

    Prometheus's own takes two locks and a walk over all buckets for each value, which is more
    than some answers cost; this is a search and two additions. Whoever reads it may see the last
    value in its bucket and not yet in the sum.

    Args:
        name: Of the metric.
        text: What it says.
        bounds: Upper bounds of the buckets, ascending, without infinity.
        registry: Where it is shown.
    """

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._bounds = tuple(bounds)
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._examples: dict[tuple[str, int], Exemplar] = {}
        registry.register(self)

    def add(self, model: str, values: Iterable[float]) -> None:
        """Count values."""
        counts = self._counts.get(model)
        if counts is None:
            counts = self._counts[model] = [0] * (len(self._bounds) + 1)
        total = self._sums.get(model, 0.0)
        for value in values:
            counts[bisect_left(self._bounds, value)] += 1
            total += value
        self._sums[model] = total

    def show(self, model: str, value: float, trace: str) -> None:
        """Keep a value as the example of its bucket, by the trace that it is of."""
        place = bisect_left(self._bounds, value)
        self._examples[model, place] = Exemplar({"trace_id": trace}, value, time.time())

    def collect(self) -> Iterable[Metric]:
        """As Prometheus takes it."""
        family = HistogramMetricFamily(self._name, self._text, labels=["model"])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for model, counts in list(self._counts.items()):
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for place, (name, count) in enumerate(zip(names, accumulate(counts), strict=True)):
                # A trace is timed from its head, an answer from its row: at a bound they differ.
                example = self._examples.get((model, place)) if counts[place] else None
                buckets.append((name, count) if example is None else (name, count, example))
            family.add_metric([model], buckets, self._sums.get(model, 0.0))
        return [family]


class Metrics:
    """The gateway's figures, all named `homeostat_*`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"homeostat_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"homeostat_{name}", text, labels, registry=self.registry)

        self.predictions = counter(
            "predictions", "Rows answered, by the version and arm", "model", "version", "arm"
        )
        self.requests = counter(
            "requests", "Predict requests, by outcome: ok or an error's code", "model", "outcome"
        )
        self.seconds = Spread(
            "homeostat_predict_seconds",
            "From a parsed request to its answer",
            _SECONDS,
            self.registry,
        )
        self.queue_limit = gauge(
            "queue_limit", "Requests that may wait: what is answered in max_queue_ms", "model"
        )
        self.batch_rows = Spread("homeostat_batch_rows", "Rows of one batch", _ROWS, self.registry)
        self.failures = counter(
            "learner_failures", "Requests that a version failed, seen or unseen", "model", "version"
        )
        self.unasked = counter(
            "shadow_rows_dropped", "Rows that a shadow was not asked, for time", "model", "version"
        )
        self.labels = counter("labels", "Labels taken, by outcome", "status")
        self.logged = counter("predictions_logged", "Rows that reached the database")
        self.unlogged = counter(
            "predictions_unlogged", "Rows answered that the log could not take", "model"
        )
        self.spool_bytes = gauge("spool_bytes", "Bytes on disk that did not reach the database")
        self.evidence = gauge("evidence", "Log evidence of a detector", "model", "detector")
        self.threshold = gauge(
            "evidence_threshold",
            "Where its evidence is a signal",
            "model",
            "detector",
        )
        self.estimated = gauge(
            "estimated_accuracy",
            "Of the last hour, estimated without labels, and the ends of its 95 % interval",
            "model",
            "what",
        )
        self.open_set = gauge(
            "open_set_share",
            "Share of the last hour's rows of no known class, estimated, and its 95 % limits",
            "model",
            "what",
        )
        self.generation = gauge("routing_generation", "Number of the obeyed routing", "model")
        self.champion = gauge("champion_version", "The version that answers", "model")
        self.rollbacks = counter("rollbacks", "Rollbacks decided here", "model")
        self.agrees = gauge(
            "agrees", "1 while this (traffic, pointer) is as the routing says", "model", "what"
        )
        self.pinned = gauge(
            "pinned", "1 while a version with a role is pinned whole", "model", "role"
        )
        self.part_up = gauge("part_up", "1 while the part answers", "part")
        self.lease = gauge("controller_lease", "1 while this gateway is the one that acts")
        self.gateways = gauge(
            "gateways", "Gateways of this database: live, or gone without a word", "state"
        )
        self.behind = gauge(
            "gateways_behind", "Live gateways whose answers do not show the routing yet", "model"
        )
        self.incidents = gauge("incidents_open", "Incidents that are not resolved", "model")
        self.alerts = counter("alerts", "Alerts tried: arrived, or failed", "outcome")
        self.alerts_waiting = gauge("alerts_waiting", "Alerts that were tried and have not arrived")

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All figures and their media type: OpenMetrics with exemplars, where that is accepted."""
        if MEDIA[1] in accept:
            content: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]  # theirs
            return content, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), CONTENT_TYPE
