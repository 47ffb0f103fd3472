"""`train`, `predict`, `label`, `report`: the loop by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table
from homeostat.errors import DataError, HomeostatError, InvalidRequest


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(train)
    app.command()(predict)
    app.command()(label)
    app.command()(report)


def train(
    model: ModelName,
    data: Annotated[
        str, typer.Option("--data", metavar="FILE", help="Parquet or CSV; else as the policy says.")
    ] = "",
    key: Annotated[
        str, typer.Option("--key", help="The same key resumes the same work, and never doubles it.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Train, judge, register and place a version, as a flow run that this command follows."""
    # Prefect runs it in another folder, perhaps: a path must mean the same there.
    source = data if not data or data.startswith("builtin:") else str(_existing(data))
    _run_flow("pipeline", {"model": model, "data": source, "key": key}, key, as_json)
    if not as_json:
        say(f"`homeostat versions {model}` shows what became of it.")


def report(
    model: ModelName,
    hours: Annotated[float, typer.Option("--hours", help="How far back it looks.")] = 24.0,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Compare the answers from then on.")
    ] = "",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="Until then; now.")] = "",
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="WHAT",
            help="A version's number; profile: what the champion was judged by; TIME/TIME: another "
            "window. Else as long just before.",
        ),
    ] = "",
    incident: Annotated[
        str, typer.Option("--incident", metavar="ID", help="Its rows; it gets the address.")
    ] = "",
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", help="drift, quality or performance; may be given again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a model: its timeline, and Evidently's pages on two windows of its log.

    Without a window the newest quarter of the answers is compared with the rest. Of a window with
    more than 20,000 answers so many are drawn at random, and the page says so.
    """
    from homeostat.clock import utc_now
    from homeostat.commands.ledger import moment_of

    now = utc_now()
    asked: dict[str, Any] = {
        "model": model,
        "hours": int(hours) if hours == int(hours) else hours,
        "presets": presets or ["drift"],
        "against": "/".join(moment_of(part, now).isoformat() for part in against.split("/"))
        if "/" in against
        else against,
        "incident": incident,
    }
    for name, moment in (("start", since), ("end", until)):
        if moment:
            asked[name] = moment_of(moment, now).isoformat()
    folder = _run_flow("report", asked, "", as_json) / "reports"
    if not as_json:
        say(f"The pages and the picture are in {folder}.")


def predict(
    model: ModelName,
    rows: Annotated[
        str, typer.Argument(metavar="[ROWS]", help="JSON, a file with JSON, or - for the input.")
    ] = "-",
    entity: Annotated[
        str, typer.Option("--entity", help="Whose rows: keeps one caller on one version.")
    ] = "",
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Which is to answer, if it is loaded.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the gateway for predictions; ROWS is one row or a list of rows."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    asked = _rows(_read_json(rows))
    with Gateway.of(load_settings()) as gateway:
        answer = gateway.predict(model, asked, entity or None, version)
    if as_json:
        show_json(answer)
        return
    show_table(
        ("id", "prediction", "confidence", "version"),
        [
            (said["id"], said["prediction"], said.get("confidence"), said["version"])
            for said in answer["predictions"]
        ],
    )


def label(
    source: Annotated[
        str, typer.Argument(metavar="ID|FILE", help="A prediction id; or a JSON file, or -.")
    ],
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="The truth, as JSON or plain text.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send the truth of predictions.

    A file holds a list of {"id": ..., "label": ...}.
    """
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    labels = _labels(source) if value is None else [{"id": source, "label": _plain(value)}]
    refused: HomeostatError | None = None
    with Gateway.of(load_settings()) as gateway:
        try:
            results = gateway.label(labels).get("results", [])
        except HomeostatError as error:
            # Some may have been taken all the same: say which before saying what was not.
            results, refused = error.fields.get("results", []), error
    if results and as_json:
        show_json({"results": results})
    elif results:
        show_table(("id", "status"), [(each["id"], each["status"]) for each in results])
    if refused is not None:
        raise refused


def _run_flow(name: str, parameters: dict[str, Any], key: str, as_json: bool) -> Path:
    """Run a flow to its end, telling of it; answers the state folder."""
    from homeostat.commands.flow_runs import run_flow
    from homeostat.settings import load_settings

    settings = load_settings()
    settings.policy(parameters["model"])

    def follow(line: str) -> None:
        if not as_json:
            say(line)
            sys.stdout.flush()

    result = run_flow(settings.prefect_address, name, parameters, key, follow)
    if as_json:
        show_json(result)
    return settings.state_dir.resolve()


def _existing(file: str) -> Path:
    path = Path(file).resolve()
    if not path.is_file():
        raise DataError(f"There is no file {file}.", remedy="Give the path of a Parquet or CSV.")
    return path


def _read_json(source: str) -> Any:  # noqa: ANN401 - JSON
    """JSON from the input (`-`), from the argument itself, or from the file that it names."""
    text = source
    if source == "-":
        text = sys.stdin.read()
    elif not source.lstrip().startswith(("[", "{")):
        try:
            text = Path(source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(
                f"{source} cannot be read: {error}.", remedy="Give JSON, or a file that holds it."
            ) from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"This is not JSON: {error}.", remedy="Give one row, or a list of rows."
        ) from None


def _rows(given: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """One row or many: a body as over HTTP, an object, a flat list of numbers, a list of rows."""
    if isinstance(given, dict) and set(given) <= {"rows", "row", "entity"} and given:
        rows = given.get("rows", [given["row"]] if "row" in given else [])
        return rows if isinstance(rows, list) else [rows]
    if isinstance(given, list) and given and not all(isinstance(x, list | dict) for x in given):
        return [given]
    return given if isinstance(given, list) else [given]


def _labels(source: str) -> list[dict[str, Any]]:
    given = _read_json(source)
    listed = given.get("labels", [given]) if isinstance(given, dict) else given
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise InvalidRequest(
            f"{source} does not hold labels.", remedy='Give [{"id": ..., "label": ...}, ...].'
        )
    return listed


def _plain(value: str) -> Any:  # noqa: ANN401 - JSON
    """A label from the command line: a number or truth value where it reads as one."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, int | float | bool | str) else value
