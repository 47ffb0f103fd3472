"""Requests for inference of the Open Inference Protocol as rows, and their answers as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from homeostat.errors import InvalidRequest, LearnerError, TooLarge
from homeostat.schema import Named
from models.learner import Row
from serving.answers import Request
from serving.oip_tensors import (
    InputTensor,
    check_elements,
    elements_of,
    tensor_of,
    to_bytes,
    values_of,
    wrong,
)


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(msgspec.Struct):
    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_Output] | None = None


class _Reply(msgspec.Struct):
    """What the batcher says, as far as it is said again."""

    version: int
    release: str
    digest: str
    reason: str
    generation: int
    predictions: list[dict[str, Any]]


_decoder = msgspec.json.Decoder(_Body)
_reply_decoder = msgspec.json.Decoder(_Reply)


@dataclass(frozen=True)
class Inference:
    """A request for inference, understood.

    Args:
        request: Its rows.
        id: The caller's name for it, to be given back.
        outputs: What is to be answered: names, and whether as bytes; None: everything.
        binary: Whether everything is to be answered as bytes.
    """

    request: Request
    id: str | None
    outputs: dict[str, bool] | None
    binary: bool


def parse_inference(
    body: bytes,
    header_length: bytes | None,
    inputs: Sequence[Named],
    max_rows: int,
    version: int,
    max_elements: int = 0,
) -> Inference:
    """Understand a request.

    Args:
        body: As it came.
        header_length: How much of it is JSON, where bytes of tensors follow; None: all of it.
        inputs: What the model takes.
        max_rows: Limit of one request's rows.
        version: Who is to answer; 0: whoever does.
        max_elements: Limit of the values of all its tensors together; 0: none.

    Raises:
        InvalidRequest: it is not of the protocol, or its tensors are not the model's.
        TooLarge: more rows or values than the gateway takes at once.
    """
    length = _header_length(header_length, len(body))
    try:
        parsed = _decoder.decode(body[:length])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        cause = str(error)
    except RecursionError:
        cause = "its values are nested too deep"
    else:
        blobs = _blobs(parsed.inputs, body[length:], header_length is not None)
        check_elements(parsed.inputs, max_elements)
        rows = _rows(parsed.inputs, blobs, inputs, max_rows)
        entity = _entity(parsed.parameters.get("entity"), len(rows))
        binary = _flag(parsed.parameters, "binary_data_output", default=False)
        wanted = _wanted(parsed.outputs, binary)
        numbers = len(inputs) == 1 and inputs[0].width is not None and _floats(rows)
        request = Request(rows, entity, numbers, version)
        return Inference(request, parsed.id, wanted, binary)
    raise InvalidRequest(
        f"The body is no request for inference: {cause}.",
        remedy='Send JSON: {"inputs": [{"name", "shape", "datatype", "data"}]}.',
    )


def render(
    asked: Inference, model: str, outputs: Sequence[Named], reply: bytes
) -> tuple[bytes, int | None]:
    """An answer, and how much of it is JSON where bytes follow.

    Args:
        asked: What was asked.
        model: Of whom.
        outputs: What the version says.
        reply: What the batcher said.

    Raises:
        LearnerError: the version said something else than its learner declares.
    """
    said = _reply_decoder.decode(reply)
    shown, blobs = [], []
    for spec in outputs:
        as_bytes = asked.binary if asked.outputs is None else asked.outputs.get(spec.name)
        if as_bytes is None:
            continue
        try:
            values = [one[spec.name] for one in said.predictions]
            datatype, shape, flat = tensor_of(spec, values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LearnerError(
                f"The learner of {model}:{said.version} declares an output '{spec.name}' of "
                f"{spec.kind} and answers otherwise: {error!r}.",
                remedy="Mend the learner's `outputs`.",
            ) from error
        tensor: dict[str, Any] = {"name": spec.name, "shape": shape, "datatype": datatype}
        if as_bytes:
            blobs.append(to_bytes(flat))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = flat.tolist()
        shown.append(tensor)
    document: dict[str, Any] = {"model_name": model, "model_version": str(said.version)}
    if asked.id is not None:
        document["id"] = asked.id
    document["parameters"] = {
        "version": said.version,
        "generation": said.generation,
        "release": said.release,
        "digest": said.digest,
        "reason": said.reason,
        "prediction_ids": ",".join(one["id"] for one in said.predictions),
    }
    document["outputs"] = shown
    head = msgspec.json.encode(document)
    return (head + b"".join(blobs), len(head)) if blobs else (head, None)


def check_outputs(asked: Inference, outputs: Sequence[Named]) -> None:
    """Hold what a request wants to what there is.

    Raises:
        InvalidRequest: it wants something else.
    """
    known = [spec.name for spec in outputs]
    for name in asked.outputs or ():
        if name not in known:
            raise InvalidRequest(
                f"There is no output '{name[:80]}'.", remedy=f"Outputs: {', '.join(known)}."
            )


def _header_length(given: bytes | None, size: int) -> int:
    if given is None:
        return size
    if given.isdigit() and len(given) < 20 and int(given) <= size:
        return int(given)
    raise InvalidRequest(
        f"Inference-Header-Content-Length is {given[:40].decode('latin-1')!r}; the body has "
        f"{size} bytes.",
        remedy="Send how many bytes of the body are JSON.",
    )


def _blobs(tensors: Sequence[InputTensor], rest: bytes, binary: bool) -> list[bytes | None]:
    """The bytes of each tensor that came as bytes; together they are all that follows the JSON."""
    blobs: list[bytes | None] = []
    start = 0
    for tensor in tensors:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            blobs.append(None)
            continue
        if type(size) is not int or size < 0 or not binary or tensor.data is not msgspec.UNSET:
            raise wrong(
                tensor,
                f"has the binary_data_size {str(size)[:40]}",
                "Send the number of its bytes, no 'data', and the header "
                "Inference-Header-Content-Length.",
            )
        if start + size > len(rest):
            raise wrong(
                tensor,
                f"says that {size} bytes follow; {len(rest) - start} do",
                "Send its bytes after the JSON, in the order of the inputs.",
            )
        blobs.append(rest[start : start + size])
        start += size
    if start < len(rest):
        raise InvalidRequest(
            f"{len(rest) - start} bytes follow that belong to no input.",
            remedy="Say 'binary_data_size' for each input that is sent as bytes.",
        )
    return blobs


def _rows(
    tensors: Sequence[InputTensor],
    blobs: Sequence[bytes | None],
    inputs: Sequence[Named],
    max_rows: int,
) -> list[Row]:
    specs = {spec.name: spec for spec in inputs}
    names = [tensor.name for tensor in tensors]
    if sorted(names) != sorted(specs):
        odd = [name for name in names if name not in specs or names.count(name) > 1]
        odd += [name for name in specs if name not in names]
        raise InvalidRequest(
            f"The inputs are not the model's: see '{odd[0][:80]}'.",
            remedy=f"Send each of these once: {', '.join(specs)}.",
            input=odd[0][:80],
        )
    columns: dict[str, list[Any]] = {}
    count = None
    for tensor, blob in zip(tensors, blobs, strict=True):
        spec = specs[tensor.name]
        total, rows = elements_of(tensor), tensor.shape[0]
        width = 1 if spec.width is None else spec.width
        if not rows or total != rows * width or rows != (count or rows):
            shape = "[N] or [N,1]" if spec.width is None else f"[N,{width}]"
            raise wrong(
                tensor,
                f"has the shape {str(tensor.shape)[:80]}",
                f"Send {shape}, with one N of at least 1 for all inputs.",
            )
        if rows > max_rows:
            raise TooLarge(
                f"The request has {rows} rows; at most {max_rows} are taken at once.",
                remedy="Send them in several requests, or raise max_rows in the settings.",
                limit=max_rows,
            )
        count = rows
        flat = values_of(tensor, blob)
        if spec.width is not None:
            flat = [flat[at : at + width] for at in range(0, total, width)]
        columns[spec.name] = flat
    if len(inputs) == 1 and inputs[0].width is not None:
        return columns[inputs[0].name]
    ordered = [columns[spec.name] for spec in inputs]
    return [dict(zip(specs, row, strict=True)) for row in zip(*ordered, strict=True)]


def _entity(given: object, rows: int) -> str | list[str] | None:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, list) and len(given) == rows and all(isinstance(e, str) for e in given):
        return given
    raise InvalidRequest(
        "The parameter 'entity' is neither a text nor a list of one text for each row.",
        remedy="Send one entity for all rows, or one for each.",
    )


def _wanted(outputs: Sequence[_Output] | None, binary: bool) -> dict[str, bool] | None:
    if not outputs:
        return None
    wanted = {}
    for output in outputs:
        odd = sorted(set(output.parameters) - {"binary_data"})
        if odd or output.name in wanted:
            what = f"the parameter '{odd[0][:80]}'" if odd else "its name twice"
            raise InvalidRequest(
                f"The output '{output.name[:80]}' is asked for with {what}.",
                remedy="Ask for each output once; 'binary_data' is what may be said of it.",
            )
        wanted[output.name] = _flag(output.parameters, "binary_data", default=binary)
    return wanted


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    found = parameters.get(name, default)
    if isinstance(found, bool):
        return found
    raise InvalidRequest(f"The parameter '{name}' is {str(found)[:40]}.", remedy="true or false.")


def _floats(rows: Sequence[Row]) -> bool:
    return all(type(value) is float for row in rows for value in row)
