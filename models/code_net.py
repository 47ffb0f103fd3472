"""A small decoder-only language model over bytes.

Shapes: N rows, T positions, D width, H heads, V bytes (256). The layers are those of Radford et al.
2019 (*Language models are unsupervised multitask learners*): normalisation before attention and
before the wide layers. Positions are turned into the heads (rotary embedding: Su et al. 2021,
*RoFormer*, section 3.2), so a text may go on beyond what was trained on at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BYTES = 256
PAD = BYTES  # stands before the first byte of a text
NEXT = -1.0  # the truth of the last position, which the row itself does not tell
_HEAD = 16  # width of one

Past = tuple[Tensor, Tensor]  # keys and values (N, H, T, D / H) of the positions before


class Block(nn.Module):
    """Causal attention and a wide layer, each beside its input: (N, T, D) to (N, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """The new hidden states, and keys and values of all positions so far."""
        rows, length, width = x.shape
        mixed = self.mix(self.before(x)).view(rows, length, 3, self.heads, _HEAD)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (N, H, T, D / H)
        seen = 0 if past is None else past[0].shape[2]
        query, key = turned(query, seen), turned(key, seen)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        x = x + self.out(found.transpose(1, 2).reshape(rows, length, width))
        x = x + self.narrow(functional.gelu(self.wide(self.after(x))))
        return x, (key, value)


def turned(x: Tensor, first: int) -> Tensor:
    """Heads (N, H, T, D / H) turned by their positions, which begin at `first`."""
    half = x.shape[-1] // 2
    speed = 10_000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(first, first + x.shape[2], dtype=x.dtype)[:, None] * speed
    sine, cosine = angle.sin(), angle.cos()
    one, other = x[..., :half], x[..., half:]
    return torch.cat([one * cosine - other * sine, one * sine + other * cosine], dim=-1)


class CodeNet(nn.Module):
    """Bytes of texts to what each position says of the next byte."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(BYTES + 1, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, BYTES)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits and truths (N, T, V + 1) of rows (N, T).

        The last column is the byte that comes next, as far as the row tells: `PAD` before its
        first byte, `NEXT` at its end. So whoever sees outputs alone can hold them to the truth.
        """
        logits, _ = self.step(rows.long(), None)
        after = torch.full_like(rows[:, :1], NEXT)
        return torch.cat([logits, torch.cat([rows[:, 1:], after], 1).unsqueeze(2)], 2)

    def step(self, tokens: Tensor, past: list[Past] | None) -> tuple[Tensor, list[Past]]:
        """Logits (N, T, V) of tokens (N, T) that follow those of `past`."""
        x, seen = self.embed(tokens), list[Past]()
        for number, block in enumerate(self.blocks):
            x, kept = block(x, None if past is None else past[number])
            seen.append(kept)
        return self.head(self.norm(x)), seen

    def go_on(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """What follows rows (N, T), always the likeliest byte: greedy.

        Returns:
            The logits (N, T, V) of the rows, the bytes (N, count) that follow, and the chance
            (N, count) that each had.
        """
        logits, past = self.step(rows.long(), None)
        last, found, chances = logits[:, -1], list[Tensor](), list[Tensor]()
        for number in range(count):
            chance, byte = torch.softmax(last, dim=1).max(dim=1)
            found.append(byte)
            chances.append(chance)
            if number + 1 < count:
                further, past = self.step(byte[:, None], past)
                last = further[:, 0]
        return logits, torch.stack(found, 1), torch.stack(chances, 1)
