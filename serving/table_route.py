"""`POST /v1/models/{model}/batch`: a table in, a table out, every row a prediction as any other."""

from __future__ import annotations

import re
from typing import Annotated, Any, BinaryIO

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from homeostat.errors import HomeostatError, InvalidRow, RateLimited
from serving import tables
from serving.admitting import Predicting
from serving.bodies import read_body
from serving.entries import parse_request
from serving.gateway import Gateway
from serving.runtime import Loaded

AT_ONCE = 2  # each holds its body in memory and has a process that reads it
RETRY_SECONDS = 5


class _Reply(msgspec.Struct):
    generation: int
    predictions: list[dict[str, Any]]


_decoder = msgspec.json.Decoder(_Reply)
_TABLE = {media: {"schema": {"type": "string", "format": "binary"}} for media in tables.MEDIA}


def routes(gateway: Gateway) -> APIRouter:
    """The one route."""
    router = APIRouter(prefix="/v1", tags=["predictions"])
    under_way: set[object] = set()

    @router.post(
        "/models/{model}/batch",
        response_class=Response,
        responses={200: {"description": "An answer for each row.", "content": _TABLE}},
        openapi_extra={"requestBody": {"required": True, "content": _TABLE}},
    )
    async def batch(
        model: str,
        request: Request,
        _: Predicting,
        entity: Annotated[str | None, Query(max_length=255)] = None,
    ) -> Response:
        """Predict the rows of an Arrow stream or a Parquet file; `entity` names a column."""
        if len(under_way) >= AT_ONCE:
            raise RateLimited(
                f"{AT_ONCE} tables are being answered, as many as may be at once.",
                remedy="Send it again later.",
                limit=AT_ONCE,
                retry_after=RETRY_SECONDS,
            )
        ticket = object()
        under_way.add(ticket)
        try:
            return await _answer(gateway, model, request, entity)
        except HomeostatError as error:
            gateway.predictor.count_refusal(model, error)
            raise
        finally:
            under_way.discard(ticket)

    return router


async def _answer(gateway: Gateway, model: str, request: Request, entity: str | None) -> Response:
    settings, headers = gateway.settings, request.headers
    kind = tables.kind_of(headers.get("content-type", ""))
    wanted = tables.wanted_kind(headers.get("accept", ""), kind)
    loaded = gateway.fleet.serving(model).champion
    limits = settings.max_batch_rows, settings.max_batch_bytes
    body = await read_body(headers.raw, request.receive, settings.max_batch_bytes)
    inputs = loaded.learner.inputs
    file = await run_in_threadpool(tables.read, body, kind, inputs, entity, limits)
    del body
    with file:
        # All of it is looked at before any of it is answered: a bad row leaves nothing in the log.
        await run_in_threadpool(check, loaded, file)
        predictions: list[dict[str, Any]] = []
        generations: list[int] = []
        for line in tables.lines_of(file):
            asked = parse_request(line, tables.LINE_ROWS, gateway.fleet.columns(model))
            reply = _decoder.decode((await gateway.batcher.submit(model, asked)).body)
            predictions += reply.predictions
            generations.append(reply.generation)
    said = {"model": model, "generations": ",".join(map(str, sorted(set(generations))))}
    outputs = loaded.learner.outputs
    table = await run_in_threadpool(tables.write, wanted, predictions, outputs, said)
    media = next(media for media, one in tables.MEDIA.items() if one == wanted)
    return Response(table, media_type=media)


def check(loaded: Loaded, file: BinaryIO) -> None:
    """Hold every row to what the model takes.

    Raises:
        InvalidRow: the first that it does not take, by its place in the table.
        LearnerError: the learner failed otherwise.
    """
    start = 0
    for line in tables.lines_of(file):
        rows = parse_request(line, tables.LINE_ROWS).rows
        try:
            loaded.encode(rows)
        except InvalidRow as error:
            row = error.fields.get("row")
            if not isinstance(row, int):
                raise
            text = re.sub(rf"\bRow {row}\b", f"Row {start + row}", error.message, count=1)
            fields = error.fields | {"row": start + row}
            raise InvalidRow(text, remedy=error.remedy, **fields) from error
        start += len(rows)
