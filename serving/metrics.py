"""What the gateway tells Prometheus. One registry per gateway; nothing global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


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
        self.seconds = Histogram(
            "homeostat_predict_seconds",
            "From a parsed request to its answer",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "homeostat_batch_rows",
            "Rows of one batch",
            ["model"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self.failures = counter(
            "learner_failures", "Requests that a version failed, seen or unseen", "model", "version"
        )
        self.labels = counter("labels", "Labels taken, by outcome", "status")
        self.logged = counter("predictions_logged", "Rows that reached the database")
        self.spool_bytes = gauge("spool_bytes", "Bytes on disk that did not reach the database")
        self.evidence = gauge("evidence", "Log evidence of a detector", "model", "detector")
        self.threshold = gauge(
            "evidence_threshold",
            "Where its evidence is a signal",
            "model",
            "detector",
        )
        self.generation = gauge("routing_generation", "Number of the obeyed routing", "model")
        self.champion = gauge("champion_version", "The version that answers", "model")
        self.rollbacks = counter("rollbacks", "Rollbacks decided here", "model")
        self.part_up = gauge("part_up", "1 while the part answers", "part")
        self.lease = gauge("controller_lease", "1 while this gateway is the one that acts")
        self.incidents = gauge("incidents_open", "Incidents that are not resolved", "model")

    def render(self) -> bytes:
        """All figures in Prometheus's text format."""
        return generate_latest(self.registry)
