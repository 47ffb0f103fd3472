"""Figures that we count by ourselves read as the Prometheus client's own."""

from __future__ import annotations

from serving.metrics import Metrics


def test_figures_of_a_histogram_are_prometheus_s_own() -> None:
    metrics = Metrics()
    metrics.batch_rows.add("m", [1, 2, 3, 5000])
    value = metrics.registry.get_sample_value
    name, of = "homeostat_batch_rows", {"model": "m"}
    assert value(f"{name}_count", of) == 4
    assert value(f"{name}_sum", of) == 5006
    assert [value(f"{name}_bucket", of | {"le": le}) for le in ("1.0", "2.0", "4.0", "+Inf")] == [
        *(1, 2, 3, 4)
    ]
    assert b'homeostat_batch_rows_bucket{le="4096.0",model="m"} 3.0' in metrics.render()[0]
