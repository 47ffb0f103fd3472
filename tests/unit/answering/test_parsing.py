"""Bodies that are wrong or too large are refused alike, however their rows are read."""

from __future__ import annotations

import pytest

from homeostat.errors import InvalidRequest, TooLarge
from serving.entries import parse_request


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"rows": []}',
        b'{"row": [1, 2], "rows": [[1, 2]]}',
        b'{"rows": [[1, 2]], "entity": ["a", "b"]}',
        b'{"row": [1, 2], "more": 1}',
        b'{"row": [1, 2]',
    ],
)
def test_a_body_that_is_wrong_is_wrong_in_the_same_words_for_plain_numbers(body: bytes) -> None:
    said = []
    for row_size in (0, 2):
        with pytest.raises(InvalidRequest) as caught:
            parse_request(body, 10, row_size)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_more_rows_than_are_taken_are_too_many_for_plain_numbers_too() -> None:
    with pytest.raises(TooLarge):
        parse_request(b'{"rows": [[1, 2], [1, 2]]}', 1, 2)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b'{"rows": [[1, 2, 3], [4, 5, 6]]}', 6),
        (b'{"row": [[[1], [2, 3]], {"a": 4, "b": [5, 6]}]}', 6),
        (b'{"row": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}", 1),
    ],
)
def test_the_values_of_a_request_are_bounded_however_they_are_nested(
    body: bytes, count: int
) -> None:
    assert parse_request(body, 10, max_elements=count).rows
    if count > 1:
        for columns in (0, 3):  # also of a model that takes three plain numbers a row
            with pytest.raises(TooLarge, match=f"has {count} values"):
                parse_request(body, 10, columns, count - 1)
