"""Texts as fixed-width vectors: hashed words, pairs of words and character n-grams.

Nothing is learnt and nothing is stored: a text has the same vector in every process, on every
machine and in every version (the hashing trick with signs: Weinberger et al. 2009, *Feature
hashing for large scale multitask learning*, section 2; n-grams within words: Bojanowski et al.
2017, *Enriching word vectors with subword information*, section 3.2).

Shapes: N texts, B buckets, T tokens of a text, G n-grams of a token.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SHORTEST = 3  # characters of the shortest n-gram
_LONGEST_TOKEN = 32  # a longer word is cut: the n-grams of a token stay few
_CACHED_TOKENS = 1 << 15  # some 15 MB at most; nine words of ten in a stream are in it
_ROWS = 256  # texts whose counts are gathered at once
_ODD = np.uint32(0x9E3779B1)  # so that a pair and its reverse differ
_TOKEN = re.compile(rf"\w{{1,{_LONGEST_TOKEN}}}|[^\w\s]")

Hashes = NDArray[np.uint32]


def tokens(text: str) -> list[str]:
    """Words, and every sign by itself, folded so that case and composition do not matter."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def hashed(split: Sequence[Sequence[str]], buckets: int, longest: int) -> NDArray[np.float32]:
    """Signed counts of n-grams by bucket, each row of length 1 (or 0 where there is no token).

    A token gives itself, the `SHORTEST` to `longest` characters long n-grams of `<token>`, and
    itself with the token before it.

    Args:
        split: The tokens of each text, as `tokens` gives them.
        buckets: B.
        longest: Characters of the longest n-gram; below `SHORTEST` there is none.

    Returns:
        (N, B).
    """
    vectors = np.empty((len(split), buckets), dtype=np.float32)
    for start in range(0, len(split), _ROWS):
        part = split[start : start + _ROWS]
        counts = _counts(part, buckets, longest)
        lengths = np.sqrt(np.einsum("ij,ij->i", counts, counts))
        vectors[start : start + len(part)] = counts / np.maximum(lengths, 1e-9)[:, None]
    return vectors


def signs(width: int, columns: int, name: str) -> NDArray[np.float32]:
    """A matrix (width, columns) of +1 and -1 that depends on its name alone.

    A row of length 1 times it has entries of variance 1 over the draw of the matrix, and the
    distances of rows are kept on average (Achlioptas 2003, *Database-friendly random
    projections*). The bits are SHAKE-256's: no library's generator decides them.
    """
    drawn = hashlib.shake_256(name.encode()).digest((width * columns + 7) // 8)
    bits = np.unpackbits(np.frombuffer(drawn, dtype=np.uint8))[: width * columns]
    return (2.0 * bits - 1.0).astype(np.float32).reshape(width, columns)


def _counts(split: Sequence[Sequence[str]], buckets: int, longest: int) -> NDArray[np.float64]:
    """Signed counts (N, B) of a few texts."""
    found = [_of_token(word, longest) for words in split for word in words]
    if not found:
        return np.zeros((len(split), buckets), dtype=np.float64)
    row = np.repeat(np.arange(len(split)), [len(words) for words in split])  # (all T,)
    sizes = np.array([len(hashes) for hashes in found])
    of_tokens = np.concatenate(found)
    alone = of_tokens[np.cumsum(sizes) - sizes]  # the first hash of a token is of itself
    together = row[1:] == row[:-1]
    of_pairs = _mixed((alone[:-1] * _ODD + alone[1:])[together])
    hashes = np.concatenate([of_tokens, of_pairs])
    rows = np.concatenate([np.repeat(row, sizes), row[1:][together]])
    places = rows * buckets + (hashes >> 1) % buckets
    ones = 1.0 - 2.0 * (hashes & 1)
    flat = np.bincount(places, weights=ones, minlength=len(split) * buckets)
    return np.asarray(flat, dtype=np.float64).reshape(len(split), buckets)


@lru_cache(maxsize=_CACHED_TOKENS)
def _of_token(token: str, longest: int) -> Hashes:
    """The hashes (G,) of a token and of its n-grams."""
    around = f"<{token}>"
    grams = [
        around[at : at + size]
        for size in range(SHORTEST, longest + 1)
        for at in range(len(around) - size + 1)
    ]
    # The word itself is marked by a space: no n-gram within a word has one.
    checks = [zlib.crc32(_bytes(gram)) for gram in (f" {token}", *grams)]
    hashes = _mixed(np.array(checks, dtype=np.uint32))
    hashes.flags.writeable = False
    return hashes


def _bytes(text: str) -> bytes:
    # JSON may carry half of a surrogate pair.
    return text.encode("utf-8", "surrogatepass")


def _mixed(hashes: Hashes) -> Hashes:
    """Hashes with their bits stirred: CRC-32 is linear, so near texts have near checksums.

    The finaliser of MurmurHash3 (Appleby 2011), 32 bits.
    """
    mixed = hashes ^ (hashes >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed
