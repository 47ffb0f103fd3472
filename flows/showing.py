"""What a flow run shows on its page in Prefect, and how its tasks meet a server that is away."""

from __future__ import annotations

import re
from typing import Any, TypeVar, cast
from urllib.parse import quote as quote_path

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.annotations import quote

from homeostat.errors import HomeostatError, Unavailable

T = TypeVar("T")

RETRY_DELAYS = [1.0, 3.0, 10.0]  # seconds: a server that restarts is back by the last


def worth_a_retry(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - the signature is Prefect's
    """Only what time can mend: our own refusals would be the same refusals again."""
    error = state.data
    return not isinstance(error, HomeostatError) or isinstance(error, Unavailable)


# A task's inputs are modules and data sets here: hashing them for a cache costs more than the
# task, and what must not be done twice is found by its work key instead.
LOCAL: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
SERVED: dict[str, Any] = {
    **LOCAL,
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_condition_fn": worth_a_retry,
}


def whole(value: T) -> T:
    """Hand `value` to a task untouched.

    Prefect looks for futures in every element of what a task is given: 1.5 seconds for the rows
    of 1,300 small images. It takes the wrapping off before the task's function sees it.
    """
    return cast(T, quote(value))


def show_gates(model: str, rows: list[dict[str, object]], description: str) -> None:
    """Put the gates' figures on the flow run's page as a table."""
    create_table_artifact(rows, key=_key("gates", model), description=description)


def show_version(model: str, version: int, address: str) -> None:
    """Put a link to the version's page in MLflow on the flow run's page."""
    create_link_artifact(
        address,
        link_text=f"{model} version {version} in MLflow",
        key=_key("version", model),
        description=f"[{model} version {version}]({address}): its card, files and figures.",
    )


def show_model(model: str, page: str) -> None:
    """Put a link to a model on the page of on-call, which is at `page`, on the flow run's page."""
    address = f"{page}/page/models/{quote_path(model, safe='')}"
    create_link_artifact(
        address,
        link_text=f"{model} on the page of on-call",
        key=_key("model", model),
        description=f"[{model}]({address}): what serves, what is wrong, what comes next.",
    )


def show_report(model: str, address: str) -> None:
    """Put a link to the report's run in MLflow on the flow run's page."""
    create_link_artifact(
        address,
        link_text=f"The report of {model} in MLflow",
        key=_key("report", model),
        description=f"[The report of {model}]({address}): timeline and drift.",
    )


def show_text(kind: str, model: str, text: str) -> None:
    """Put a text on the flow run's page, line for line."""
    create_markdown_artifact(f"```text\n{text}\n```", key=_key(kind, model))


def _key(kind: str, model: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', model.lower()).strip('-') or 'model'}"
