"""Writing the report's files: plain functions over the log and `monitoring`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.champions import fetch
from flows.site import Site
from homeostat.policy import Policy
from models import Learner, guarded
from monitoring.report import drift_report
from monitoring.timeline import draw, write_page
from registry.history import timeline
from registry.labels import LabelledRow, labelled_rows

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 20_000  # the newest so many are compared
RECENT = 0.25  # of the rows: the newest part, compared with the rest
MIN_ROWS = 80  # on both sides together; fewer say nothing


def write(site: Site, model: str, hours: float, folder: Path, now: datetime) -> list[Path]:
    """Write the timeline of the last `hours` as a page and a picture: their paths.

    Raises:
        Unavailable: the database is away.
    """
    with site.session() as session:
        seen = timeline(session, model, now - timedelta(hours=hours), now)
    page, picture = folder / "timeline.html", folder / "timeline.png"
    write_page(seen, page)
    draw(seen, picture)
    return [page, picture]


def compare(
    site: Site, policy: Policy, model: str, hours: float, folder: Path, now: datetime
) -> Path | None:
    """Write Evidently's comparison of the newest quarter of the labelled rows with the rest.

    Returns:
        The page, or None where there are too few rows or no champion to encode them.

    Raises:
        Unavailable: the database is away, or MLflow is and there is no copy of the champion.
    """
    with site.session() as session:
        rows = labelled_rows(session, model, now - timedelta(hours=hours), MAX_ROWS)
    champion = fetch(site, model, policy)
    if champion is None or len(rows) < MIN_ROWS:
        return None
    turn = len(rows) - int(len(rows) * RECENT)
    earlier, recent = (frame(champion.learner, part) for part in (rows[:turn], rows[turn:]))
    page = folder / "drift.html"
    drift_report(recent, earlier, champion.learner.features, page)
    return page


def frame(learner: Learner, rows: Sequence[LabelledRow]) -> pd.DataFrame:
    """What the monitors watch of logged rows, a column for each feature."""
    import pandas as pd

    observed = guarded(learner.observe, guarded(learner.encode, [row.row for row in rows]))
    return pd.DataFrame(observed, columns=[feature.name for feature in learner.features])
