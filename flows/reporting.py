"""Writing the report's files: plain functions over the log and `monitoring`."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.champions import fetch
from flows.learning import Champion
from flows.site import Site
from flows.wanted import PRESETS, Wanted
from flows.windows import Side, newest_part, of_incident, other_side, window
from homeostat.errors import InputError
from homeostat.policy import Policy
from monitoring.report import TARGET, batch_report
from monitoring.timeline import draw, write_page
from registry.history import timeline
from registry.incidents import note
from registry.routing import current_routing

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

REPORT_TAG = "homeostat.report"  # of a version in MLflow: where its newest report is
MIN_ROWS = 20  # on each side; fewer say nothing


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
    site: Site, policy: Policy, model: str, wanted: Wanted, folder: Path, now: datetime
) -> list[Path]:
    """Write Evidently's pages on two windows or versions of the log, one for each preset.

    Returns:
        The pages; a preset with too few rows on a side has none.

    Raises:
        InputError: what is wanted cannot be meant.
        Unavailable: the database is away, or MLflow is and there is no copy of the champion.
    """
    champion = fetch(site, model, policy)
    if champion is None:
        return []
    with site.session() as session:
        current, reference = _sides(session, model, champion, wanted, now)
    pages = []
    for preset in wanted.presets:
        now_rows, then_rows = current.rows, reference.rows
        if preset == "performance":
            now_rows, then_rows = (rows[rows[TARGET].notna()] for rows in (now_rows, then_rows))
        if min(len(now_rows), len(then_rows)) < MIN_ROWS:
            continue
        page = folder / f"{preset}.html"
        about = f"{current.about} against {reference.about}"
        kind = PRESETS[preset] or champion.learner.task
        batch_report(now_rows, then_rows, champion.learner.features, page, kind, about)
        pages.append(page)
    return pages


def _sides(
    session: Session, model: str, champion: Champion, wanted: Wanted, now: datetime
) -> tuple[Side, Side]:
    start, end = wanted.start, wanted.end or now
    if wanted.incident and start is None:
        start, end = of_incident(session, wanted.incident, now)
    if start is None and not wanted.against:
        return newest_part(session, model, champion, end - timedelta(hours=wanted.hours), end)
    start = start or end - timedelta(hours=wanted.hours)
    if start >= end:
        raise InputError(f"From {start} to {end} is no window.", remedy="Give the earlier first.")
    current = window(session, model, champion, start, end)
    return current, other_side(session, model, champion, start, end, wanted.against)


def link_report(site: Site, model: str, incident: str, url: str, now: datetime) -> None:
    """Tag the champion in MLflow with the report's address, and add it to the incident's story.

    Raises:
        Unavailable: MLflow or the database is away.
    """
    with site.session() as session:
        routing = current_routing(session, model)
        if incident:
            note(session, incident, f"Report: {url}", now)
    if routing is not None:
        site.versions.tag(model, routing.champion, {REPORT_TAG: url})
