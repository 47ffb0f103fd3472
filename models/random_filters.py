"""Frozen random filters over an image: what a head of sums reads where pixels alone say too little.

Saxe et al. 2011, *On random weights and unsupervised feature learning*: filters that are drawn and
never trained, pooled, tell edges of each direction by their place. Coates and Ng 2011, *The
importance of encoding versus training with sparse coding and vector quantization*, have the soft
threshold, there an encoder, which makes of each answer two features:

    a_k = image * w_k                                 w_k has mean 0 and length 1
    z   = mean over each of 4x4 fields of [max(0, a_k - t), max(0, -a_k - t)]

Shapes: N images of height H and width W, K filters of side S, F = 32 K features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FIELDS = 4  # of a side, over which answers are pooled
FINEST = 14  # answers along a side that are enough for that
THRESHOLD = 0.3  # t, for pixels from 0 to 1
GAIN = 3.0  # brings the pooled answers to about the scale of the pixels


class RandomFilters(nn.Module):
    """Features (N, F) of images (N, H W) whose pixels are from 0 to 1.

    Args:
        grid: H and W.
        filters: K.
    """

    bank: Tensor

    def __init__(self, grid: tuple[int, int], filters: int) -> None:
        super().__init__()
        self._grid = grid
        # A quarter of the image's side, odd, so that an answer stands where its pixel is.
        self._side = max(3, min(grid) // 4 | 1)
        self.register_buffer("bank", torch.zeros(filters, 1, self._side, self._side))

    @property
    def width(self) -> int:
        """F."""
        return 2 * FIELDS * FIELDS * len(self.bank)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the filters: normal, then of mean 0 and length 1."""
        drawn = torch.randn(self.bank.shape, generator=generator)
        drawn -= drawn.mean(dim=(1, 2, 3), keepdim=True)
        self.bank.copy_(drawn / drawn.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, F)."""
        answers = functional.conv2d(
            images.reshape(-1, 1, *self._grid),
            self.bank,
            stride=max(1, min(self._grid) // FINEST),
            padding=self._side // 2,
        )
        sides = torch.cat([answers - THRESHOLD, -answers - THRESHOLD], dim=1)
        pooled = functional.adaptive_avg_pool2d(functional.relu(sides), FIELDS)
        return GAIN * pooled.flatten(1)
