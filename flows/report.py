"""The report: the timeline that one shows to a colleague, and how the inputs differ of late."""

# No postponed annotations here: Prefect sends a flow to its process by value, without the names
# that its annotations would need there.
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.showing import LOCAL, SERVED, show_report
from flows.wanted import Wanted
from homeostat.clock import utc_now, utc_of
from homeostat.policy import Policy
from homeostat.settings import get_settings

if TYPE_CHECKING:
    from flows.site import Site


@flow(name="report", persist_result=False)
def report(
    model: Annotated[str, Field(min_length=1)] = "digits",
    hours: Annotated[float, Field(gt=0.0, le=24.0 * 366)] = 24.0,
    presets: tuple[str, ...] = ("drift",),
    start: datetime | None = None,
    end: datetime | None = None,
    against: str = "",
    incident: str = "",
) -> dict[str, Any]:
    """Write a model's timeline as a page and a picture, and keep them in MLflow.

    Args:
        model: A model of the settings.
        hours: How far back.
        presets: Evidently's pages besides, some seconds each: `drift`, `quality`, `performance`
            (of labelled rows).
        start: Of the window that they compare; None: the newest quarter of `hours` with the rest.
        end: Of that window; None: now.
        against: What with: empty, `profile`, a version's number, or FROM/TO.
        incident: An incident's id: its rows are the window, and its story gets the address.

    Returns:
        `page`, `picture` and `pages` by preset (paths; a preset without enough rows has none),
        `run_id` and `url` of the MLflow run that holds them.

    Raises:
        InputError: a preset, window or incident that there is not.
        UnknownModel: the settings have no such model.
        Unavailable: MLflow or the database stayed away.
    """
    settings = get_settings()
    policy = settings.policy(model)
    from flows.site import open_site

    with open_site(settings) as site:
        now = utc_now()
        folder = settings.state_dir.resolve() / "reports" / f"{model}-{now:%Y%m%dT%H%M%S}"
        files = write_timeline(site, model, hours, folder)
        wanted = Wanted(hours, tuple(presets), utc_of(start), utc_of(end), against, incident)
        compared = compare_rows(site, policy, model, wanted, folder) if presets else []
        run_id = keep(site, model, [*files, *compared])
        url = site.runs.run_page(model, run_id)
        link(site, model, incident, url)
        show_report(model, url)
        page, picture = files
        return {
            "page": str(page),
            "picture": str(picture),
            "pages": {path.stem: str(path) for path in compared},
            "run_id": run_id,
            "url": url,
        }


@task(**SERVED)
def write_timeline(site: "Site", model: str, hours: float, folder: Path) -> list[Path]:
    """Draw the timeline and write its page."""
    from flows.reporting import write

    return write(site, model, hours, folder, utc_now())


@task(**LOCAL)
def compare_rows(
    site: "Site", policy: Policy, model: str, wanted: Wanted, folder: Path
) -> list[Path]:
    """Compare two windows or versions of the log."""
    from flows.reporting import compare

    return compare(site, policy, model, wanted, folder, utc_now())


@task(**SERVED)
def keep(site: "Site", model: str, files: list[Path]) -> str:
    """Keep the files with an MLflow run."""
    return site.runs.keep_report(model, f"report {utc_now():%Y-%m-%d %H:%M:%S}", files)


@task(**SERVED)
def link(site: "Site", model: str, incident: str, url: str) -> None:
    """Name the report on the champion's page in MLflow, and in the story of its incident."""
    from flows.reporting import link_report

    link_report(site, model, incident, url, utc_now())
