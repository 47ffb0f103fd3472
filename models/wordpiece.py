"""BERT's tokenizer: texts as numbers of pieces of words.

Words are cut at spaces and signs, and each is taken apart into the longest pieces of the vocabulary
from its front (Devlin et al. 2019, *BERT: pre-training of deep bidirectional transformers*, section
3; Wu et al. 2016, *Google's neural machine translation system*, section 4.1, for the pieces).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FIRST, LAST, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
LONGEST_WORD = 100  # characters; a longer one is unknown
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True)
class WordPiece:
    """A vocabulary, and how texts are folded before they are looked up in it.

    Args:
        numbers: Of each piece; `##` begins one that goes on within a word.
        lowercase: Whether case does not matter.
        plain: Whether accents are taken off.
    """

    numbers: Mapping[str, int]
    lowercase: bool
    plain: bool

    def read(self, text: str, most: int) -> list[int]:
        """The numbers of a text's pieces between those of its ends, at most `most` in all."""
        pieces = [number for word in self._words(text) for number in self._pieces(word)]
        return [self.numbers[FIRST], *pieces[: most - 2], self.numbers[LAST]]

    def _words(self, text: str) -> Iterator[str]:
        text = "".join(_spaced(sign) for sign in text if not _is_void(sign))
        for word in unicodedata.normalize("NFC", text).split():
            folded = word.lower() if self.lowercase else word
            if self.plain:
                apart = unicodedata.normalize("NFD", folded)
                folded = "".join(sign for sign in apart if unicodedata.category(sign) != "Mn")
            yield from "".join(f" {s} " if _is_sign(s) else s for s in folded).split()

    def _pieces(self, word: str) -> list[int]:
        if len(word) > LONGEST_WORD:
            return [self.numbers[UNKNOWN]]
        found: list[int] = []
        start = 0
        while start < len(word):
            before = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if before + word[start:end] in self.numbers), 0)
            if not end:
                return [self.numbers[UNKNOWN]]
            found.append(self.numbers[before + word[start:end]])
            start = end
        return found


def _is_void(sign: str) -> bool:
    """Characters that are dropped: controls that are no space, and the mark of broken text."""
    if sign in "\t\n\r":
        return False
    return sign in "\0\ufffd" or unicodedata.category(sign).startswith("C")


def _spaced(sign: str) -> str:
    """An ideograph is a word by itself."""
    if any(low <= ord(sign) <= high for low, high in _IDEOGRAPHS):
        return f" {sign} "
    return sign


def _is_sign(sign: str) -> bool:
    """Punctuation: all of ASCII's that is no letter, digit or space, and Unicode's."""
    if sign.isascii():
        return not sign.isalnum() and not sign.isspace()
    return unicodedata.category(sign).startswith("P")
