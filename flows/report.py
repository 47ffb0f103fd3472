"""The report: the timeline that one shows to a colleague, and how the inputs differ of late."""

# No postponed annotations here: Prefect sends a flow to its process by value, without the names
# that its annotations would need there.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.showing import LOCAL, SERVED, show_report
from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import get_settings

if TYPE_CHECKING:
    from flows.site import Site


@flow(name="report", persist_result=False)
def report(
    model: Annotated[str, Field(min_length=1)] = "digits",
    hours: Annotated[float, Field(gt=0.0, le=24.0 * 366)] = 24.0,
    drift: bool = True,
) -> dict[str, Any]:
    """Write a model's timeline as a page and a picture, and keep them in MLflow.

    Args:
        model: A model of the settings.
        hours: How far back.
        drift: Also Evidently's comparison of the newest rows with the ones before; it takes
            some seconds.

    Returns:
        `page`, `picture` and `drift` (paths; `drift` empty without enough labelled rows),
        `run_id` and `url` of the MLflow run that holds them.

    Raises:
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
        compared = compare_rows(site, policy, model, hours, folder) if drift else None
        run_id = keep(site, model, [*files, *([compared] if compared else [])])
        url = site.runs.run_page(model, run_id)
        show_report(model, url)
        page, picture = files
        return {
            "page": str(page),
            "picture": str(picture),
            "drift": str(compared or ""),
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
    site: "Site", policy: Policy, model: str, hours: float, folder: Path
) -> Path | None:
    """Compare the newest rows with the ones before."""
    from flows.reporting import compare

    return compare(site, policy, model, hours, folder, utc_now())


@task(**SERVED)
def keep(site: "Site", model: str, files: list[Path]) -> str:
    """Keep the files with an MLflow run."""
    return site.runs.keep_report(model, f"report {utc_now():%Y-%m-%d %H:%M:%S}", files)
