"""Tensors of the Open Inference Protocol: what they become, and what is wrong with bad ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from homeostat.errors import InvalidRequest, LearnerError, TooLarge
from homeostat.schema import Named
from models.columns import Column
from models.digits import Digits
from models.pyfunc import Pyfunc
from models.table import Table
from serving.oip_requests import Inference, check_outputs, parse_inference, render
from serving.oip_tensors import DTYPES, InputTensor, to_bytes, values_of

IMAGE = (Named("pixels", "float32", 4),)
COLUMNS = (Named("size", "float64"), Named("colour", "str"))
DEEP = b'{"inputs": [{"name": "pixels", "shape": [1], "datatype": "FP32", "data": ' + b"[" * 100_000
SAID = (Named("prediction", "str"), Named("confidence", "float32"))


def parse(
    document: object,
    inputs: tuple[Named, ...] = IMAGE,
    blob: bytes = b"",
    length: bytes | None = None,
) -> Inference:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    given = b"%d" % len(head) if blob and length is None else length
    return parse_inference(head + blob, given, inputs, max_rows=8, version=0)


def pixels(**changes: object) -> dict[str, Any]:
    tensor = {"name": "pixels", "shape": [2, 4], "datatype": "FP32", "data": list(range(8))}
    return {"inputs": [tensor | changes]}


def test_a_tensor_of_a_width_is_rows_of_lists_flat_or_nested() -> None:
    rows = [[0, 1, 2, 3], [4, 5, 6, 7]]
    for data, shape in ((list(range(8)), [2, 4]), (rows, [2, 4]), (rows, [2, 2, 2])):
        assert parse(pixels(data=data, shape=shape)).request.rows == rows


def test_tensors_of_columns_are_rows_of_objects_and_nan_is_a_missing_value() -> None:
    size = np.array([1.5, np.nan]).tobytes()
    tensors = [
        {"name": "colour", "shape": [2, 1], "datatype": "BYTES", "data": [["red"], ["blue"]]},
        {"name": "size", "shape": [2], "datatype": "FP64"}
        | {"parameters": {"binary_data_size": 16}},
    ]
    asked = parse({"inputs": tensors, "parameters": {"entity": "ann"}}, COLUMNS, size)
    rows = [{"size": 1.5, "colour": "red"}, {"size": None, "colour": "blue"}]
    assert (asked.request.rows, asked.request.entity) == (rows, "ann")


def test_values_are_what_was_sent_infinity_too_and_floats_are_known_as_such() -> None:
    assert parse(pixels()).request.numbers
    assert not parse(pixels(datatype="INT32")).request.numbers
    blob = np.array([np.inf, -np.inf, np.nan, 0.1] * 2, dtype=np.float32).tobytes()
    tensor = {"name": "pixels", "shape": [2, 4], "datatype": "FP32"}
    document = {"inputs": [tensor | {"parameters": {"binary_data_size": 32}}]}
    asked = parse(document, blob=blob)
    assert not asked.request.numbers
    assert asked.request.rows[0] == [np.inf, -np.inf, None, float(np.float32(0.1))]


@pytest.mark.parametrize("datatype", [*DTYPES, "BF16", "BYTES"])
@settings(deadline=None, max_examples=30)
@given(data=some.data())
def test_json_and_bytes_of_one_tensor_are_the_same_values(
    datatype: str, data: some.DataObject
) -> None:
    values: list[Any]
    if datatype == "BYTES":
        values = data.draw(some.lists(some.text()))
        blob = to_bytes(np.array(values, dtype=object))
    elif datatype == "BF16":
        drawn = data.draw(some.lists(some.floats(allow_nan=False, allow_infinity=False, width=32)))
        halves = (np.array(drawn, dtype="<f4").view("<u4") >> 16).astype("<u2")
        blob = halves.tobytes()
        values = (halves.astype("<u4") << 16).view("<f4").tolist()
    else:
        dtype = np.dtype(DTYPES[datatype])
        if dtype.kind == "b":
            drawn = data.draw(some.lists(some.booleans()))
        elif dtype.kind == "f":
            width = 8 * dtype.itemsize
            one = some.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type] # it wants a literal
            drawn = data.draw(some.lists(one))
        else:
            limits = np.iinfo(dtype)
            drawn = data.draw(some.lists(some.integers(int(limits.min), int(limits.max))))
        array = np.array(drawn, dtype=dtype)
        blob, values = array.tobytes(), array.tolist()
    tensor = InputTensor("x", [len(values)], datatype)
    assert values_of(tensor, blob) == values
    tensor.data = json.loads(json.dumps(values))
    assert values_of(tensor, None) == values


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (b"", "no request"),
        (b"[]", "no request"),
        (b"{}", "inputs"),
        (b"\xff", "no request"),
        (DEEP, "nested too deep"),
        ({"inputs": []}, "pixels"),
        ({"inputs": pixels()["inputs"] * 2}, "pixels"),
        (pixels(name="pixel"), "see 'pixel'"),
        (pixels(shape=[]), "the shape []"),
        (pixels(shape=[1] * 9), "the shape"),
        (pixels(shape=[-2, -4]), "the shape [-2, -4]"),
        (pixels(shape=[2**32, 2**32, 0]), "the shape"),
        (pixels(shape=[2**62, 4]), "is taken|8 are taken"),
        (pixels(shape=[0, 4], data=[]), "the shape [0, 4]"),
        (pixels(shape=[4, 2]), "the shape [4, 2]"),
        (pixels(shape=[8]), "the shape [8]"),
        (pixels(shape=[2.5, 4]), "no request"),
        (pixels(shape=["2", 4]), "no request"),
        (pixels(data=list(range(7))), "7 elements"),
        (pixels(data=[]), "0 elements"),
        (pixels(data="12345678"), "no list"),
        (pixels(data=None), "no list"),
        (pixels(data=["1"] * 8), "no FP32"),
        (pixels(data=[None] * 8), "no FP32"),
        (pixels(data=[{}] * 8), "no FP32"),
        (pixels(data=[1e308] * 8), "no FP32"),
        (pixels(data=[10**400] * 8), "no FP32|no request"),
        (pixels(data=[70000] * 8, datatype="FP16"), "no FP16"),
        (pixels(data=[0.5] * 8, datatype="INT8"), "no INT8"),
        (pixels(data=[128] * 8, datatype="INT8"), "no INT8"),
        (pixels(data=[-1] * 8, datatype="UINT64"), "no UINT64"),
        (pixels(data=[1] * 8, datatype="BOOL"), "no BOOL"),
        (pixels(data=[1] * 8, datatype="BYTES"), "no BYTES"),
        (pixels(datatype="FP128"), "datatype 'FP128'"),
        (pixels(parameters={"binary_data_size": 32}), "binary_data_size"),
        (pixels() | {"parameters": {"entity": ["a"]}}, "entity"),
        (pixels() | {"parameters": {"entity": 5}}, "entity"),
        (pixels() | {"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        (pixels() | {"outputs": [{"name": "a"}, {"name": "a"}]}, "twice"),
        (pixels() | {"outputs": [{"name": "a", "parameters": {"classification": 3}}]}, "classif"),
        (pixels() | {"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "binary_data"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(document: object, word: str) -> None:
    with pytest.raises((InvalidRequest, TooLarge)) as caught:
        parse(document)
    assert any(one in str(caught.value) for one in word.split("|"))
    assert caught.value.remedy


def by_bytes(size: object, **changes: object) -> dict[str, Any]:
    tensor = {"name": "pixels", "shape": [2, 4], "datatype": "FP32"}
    return {"inputs": [tensor | {"parameters": {"binary_data_size": size}} | changes]}


@pytest.mark.parametrize(
    ("document", "blob", "length", "word"),
    [
        (by_bytes(32), b"x" * 31, None, "says that 32 bytes follow; 31 do"),
        (by_bytes(32), b"x" * 33, None, "1 bytes follow that belong to no input"),
        (by_bytes(31), b"x" * 31, None, "no whole number of FP32"),
        (by_bytes(28), b"x" * 28, None, "7 elements"),
        (by_bytes(-1), b"x" * 32, None, "binary_data_size -1"),
        (by_bytes(2**64), b"x" * 32, None, "bytes follow; 32 do"),
        (by_bytes(True), b"x" * 32, None, "binary_data_size True"),
        (by_bytes("32"), b"x" * 32, None, "binary_data_size 32"),
        (by_bytes(32, data=[0] * 8), b"x" * 32, None, "binary_data_size"),
        (by_bytes(32), b"x" * 32, b"9999", "the body has"),
        (by_bytes(32), b"x" * 32, b"-1", "Inference-Header-Content-Length"),
        (by_bytes(32), b"x" * 32, b"1e3", "Inference-Header-Content-Length"),
        (by_bytes(32), b"x" * 32, b"9" * 5000, "Inference-Header-Content-Length"),
        (by_bytes(32), b"x" * 32, b"5", "no request"),
        (by_bytes(4, datatype="BYTES"), b"\xff\xff\xff\xff", None, "middle of an element"),
        (by_bytes(3, datatype="BYTES"), b"\x00\x00\x00", None, "middle of an element"),
        (by_bytes(5, datatype="BYTES"), b"\x01\x00\x00\x00\xff", None, "not UTF-8"),
        (by_bytes(4, datatype="BYTES"), b"\x00\x00\x00\x00", None, "1 elements"),
    ],
)
def test_what_is_wrong_with_bytes_is_said(
    document: object, blob: bytes, length: bytes | None, word: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(document, blob=blob, length=length)
    assert word in str(caught.value)


def test_more_values_than_a_request_may_hold_are_refused_over_all_its_tensors() -> None:
    body = json.dumps(pixels()).encode()
    assert parse_inference(body, None, IMAGE, 8, 0, max_elements=8).request.rows
    with pytest.raises(TooLarge, match="promise 8 values; at most 7"):
        parse_inference(body, None, IMAGE, 8, 0, max_elements=7)


def reply(predictions: list[dict[str, Any]]) -> bytes:
    named = [{"id": f"id-{n}"} | one for n, one in enumerate(predictions)]
    head = {"version": 3, "release": "m:3@g7", "digest": "d", "generation": 7, "reason": "champion"}
    return msgspec.json.encode(head | {"model": "m", "predictions": named})


def test_an_answer_gives_back_the_id_and_names_who_answered() -> None:
    asked = parse(pixels() | {"id": "mine"})
    said = [{"prediction": "a", "confidence": 0.5}, {"prediction": "b", "confidence": 1.0}]
    content, head = render(asked, "m", SAID, reply(said))
    document = json.loads(content)
    assert head is None
    assert (document["id"], document["model_name"], document["model_version"]) == ("mine", "m", "3")
    assert document["parameters"]["prediction_ids"] == "id-0,id-1"
    assert document["parameters"]["generation"] == 7
    assert document["parameters"]["reason"] == "champion"
    assert document["outputs"][0] == {
        "name": "prediction",
        "shape": [2],
        "datatype": "BYTES",
        "data": ["a", "b"],
    }


def test_only_what_is_wanted_is_answered_and_as_bytes_where_that_is_wanted() -> None:
    wanted = [{"name": "prediction"}, {"name": "confidence", "parameters": {"binary_data": True}}]
    asked = parse(pixels() | {"outputs": wanted[1:]})
    said = [{"prediction": 4, "confidence": 0.5}, {"prediction": True, "confidence": 1.0}]
    content, head = render(asked, "m", SAID, reply(said))
    assert head is not None
    (tensor,) = json.loads(content[:head])["outputs"]
    assert tensor["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(content[head:], "<f4").tolist() == [0.5, 1.0]
    every = parse(pixels() | {"parameters": {"binary_data_output": True}})
    content, head = render(every, "m", SAID, reply(said))
    assert (
        content[head:]
        == b"\x01\x00\x00\x004\x04\x00\x00\x00true" + np.array([0.5, 1.0], "<f4").tobytes()
    )
    check_outputs(asked, SAID)
    with pytest.raises(InvalidRequest, match="confidence"):
        check_outputs(asked, SAID[:1])


def test_a_learner_that_answers_otherwise_than_it_declares_is_named() -> None:
    asked = parse(pixels())
    with pytest.raises(LearnerError, match="output 'confidence'"):
        render(asked, "m", SAID, reply([{"prediction": "a"}]))
    with pytest.raises(LearnerError, match="of int64"):
        render(asked, "m", (Named("prediction", "int64"),), reply([{"prediction": "a"}]))


def test_every_learner_says_what_it_takes_and_answers() -> None:
    assert Digits().inputs == (Named("pixels", "float32", 64),)
    assert Digits().outputs[0] == Named("prediction", "int64")
    columns = (Column("size", "numeric"), Column("colour", "categorical", categories=("red",)))
    table = Table("regression", columns)
    assert table.inputs == COLUMNS
    assert table.outputs == (Named("prediction", "float32"),)
    assert Table("classification", columns, classes=("a", "b")).outputs == SAID
    assert Table("classification", columns, classes=(False, True)).outputs[0].kind == "bool"
    kinds = {"count": "int32", "open": "bool", "colour": "str"}
    rows = [{"count": 1, "open": True, "colour": "red"}, {"count": 2, "open": False, "colour": "x"}]
    mine = Pyfunc.from_data(rows, ["a", "b"], {"kinds": kinds})
    assert [(one.name, one.kind) for one in mine.inputs] == list(kinds.items())
    whole = Pyfunc.from_data(
        [[1.0, 2.0]] * 2, [0, 1], {"kinds": {"0": "float32", "1": "float32"}, "tensor": "float32"}
    )
    assert whole.inputs == (Named("input", "float32", 2),)
