"""JSON with one spelling, so that equal values have equal bytes and equal hashes."""

from __future__ import annotations

import json


def canonical(value: object) -> str:
    """Sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a float that JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
