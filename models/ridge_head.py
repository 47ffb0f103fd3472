"""A head that learns by counting: a ridge regression onto classes over fixed random projections.

McDonnell et al. 2023, *RanPAC: random projections and pre-trained models for continual learning*,
section 4, equations 5 to 7: prototypes (the class sums S) told apart by the inverse of one running
Gram matrix G. Both are sums over rows, so rows may come in any order and in any parts: the weights
are those that all rows at once would give, and nothing is forgotten.

    z = [relu([x, 1] P), 1]                     P is drawn once and never trained
    G = sum z z^T,  S = sum one_hot(y) z^T      over all rows ever learnt
    W = S (G + penalty I)^-1
    logits = sharpness W z

`penalty` and `sharpness`, which makes probabilities of the outputs, are chosen together on a fifth
of the new rows, by the likelihood that what the other four fifths give has for them. (There it is
by the squared error, which shrinks the weights further than the order of the outputs likes.) Unlike
there the penalty is in units of the mean of G's diagonal.

Shapes: N rows, E inputs, M projections, C classes, Z = M + 1 (or E + 1 without projections).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

PENALTIES = tuple(10.0**power for power in (-4, -3, -2, -1, 0))
SHARPNESSES = tuple(2.0 ** (power / 2) for power in range(13))  # 1 to 64
CHOOSE_BY = 0.2  # of the new rows
LEAST_TO_CHOOSE = 25  # new rows; with fewer, penalty and sharpness stay
_CHUNK = 1024  # rows whose projections are held at once


class RidgeHead(nn.Module):
    """Logits (N, C) of inputs (N, E), and the sums they come from.

    Args:
        width: E.
        projections: M; 0: the inputs themselves.
        classes: C.
    """

    projection: Tensor
    gram: Tensor
    sums: Tensor
    penalty: Tensor
    sharpness: Tensor
    rows: Tensor

    def __init__(self, width: int, projections: int, classes: int) -> None:
        super().__init__()
        size = (projections or width) + 1
        if projections:
            self.register_buffer("projection", torch.zeros(width + 1, projections))
        self.register_buffer("gram", torch.zeros(size, size))
        self.register_buffer("sums", torch.zeros(classes, size))
        self.register_buffer("penalty", torch.tensor(1e-3))
        self.register_buffer("sharpness", torch.tensor(8.0))
        self.register_buffer("rows", torch.tensor(0.0))
        self.projections = projections
        self.weight = nn.Parameter(torch.zeros(classes, size), requires_grad=False)

    def draw(self, generator: torch.Generator) -> None:
        """Draw P: normal of variance 1 / (E + 1)."""
        if self.projections:
            spread = 1.0 / math.sqrt(len(self.projection))
            nn.init.normal_(self.projection, 0.0, spread, generator=generator)

    def lift(self, inputs: Tensor) -> Tensor:
        """The projected rows z (N, Z) of inputs (N, E)."""
        one = torch.ones(len(inputs), 1)
        if not self.projections:
            return torch.cat([inputs, one], dim=1)
        lifted = functional.relu(torch.cat([inputs, one], dim=1) @ self.projection)
        return torch.cat([lifted, one], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, C)."""
        return self.sharpness * (self.lift(inputs) @ self.weight.T)

    @torch.no_grad()
    def learn(self, inputs: Tensor, y: Tensor, generator: torch.Generator) -> None:
        """Take rows in: inputs (N, E) and class indices (N,)."""
        gram, sums = self.gram.double(), self.sums.double()
        order = torch.randperm(len(y), generator=generator)
        cut = round(CHOOSE_BY * len(y)) if len(y) >= LEAST_TO_CHOOSE else 0
        gram, sums = self._added(gram, sums, inputs[order[cut:]], y[order[cut:]])
        if cut:
            self._choose(gram, sums, inputs[order[:cut]], y[order[:cut]])
            gram, sums = self._added(gram, sums, inputs[order[:cut]], y[order[:cut]])
        self.rows += len(y)
        self.gram.copy_(gram)
        self.sums.copy_(sums)
        self.weight.copy_(solved(gram, sums, float(self.penalty)))

    def _added(
        self, gram: Tensor, sums: Tensor, inputs: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        for x, truths in zip(torch.split(inputs, _CHUNK), torch.split(y, _CHUNK), strict=True):
            lifted = self.lift(x)
            double = lifted.double()
            gram = gram + double.T @ double
            hot = functional.one_hot(truths, len(sums)).float()
            sums = sums + hot.double().T @ double
        return gram, sums

    def _choose(self, gram: Tensor, sums: Tensor, inputs: Tensor, y: Tensor) -> None:
        """Penalty and sharpness, by rows that `gram` and `sums` have not seen."""
        lifted = self.lift(inputs)
        known = float(self.rows)
        # Once chosen, only its neighbours are tried: a solution costs Z^3 / 3.
        now = float(self.penalty)
        tried = [one for one in PENALTIES if not known or 0.09 < one / now < 11.0]
        best, chosen = math.inf, 0.0
        for penalty in tried:
            found = lifted @ solved(gram, sums, penalty).float().T
            losses = [float(functional.cross_entropy(s * found, y)) for s in SHARPNESSES]
            if min(losses) < best:
                best = min(losses)
                chosen = math.log(SHARPNESSES[losses.index(best)])
                self.penalty.fill_(penalty)
        share = len(y) / CHOOSE_BY / (len(y) / CHOOSE_BY + known)
        before = math.log(float(self.sharpness))
        self.sharpness.fill_(math.exp(share * chosen + (1.0 - share) * before))


def solved(gram: Tensor, sums: Tensor, penalty: float) -> Tensor:
    """W (C, Z) of G (Z, Z) and S (C, Z), the penalty in units of the mean of G's diagonal."""
    ridge = penalty * float(gram.diagonal().mean()) + 1e-12
    factor = torch.linalg.cholesky(gram + ridge * torch.eye(len(gram), dtype=gram.dtype))
    return torch.cholesky_solve(sums.T, factor).T
