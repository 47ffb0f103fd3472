"""The forward pass of BERT (Devlin et al. 2019), from its weights alone: nothing of it is trained.

Shapes: N texts, T pieces of each, E width, H heads, D = E / H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PREFIX = "bert."  # of names in files that hold a head too


@dataclass(frozen=True)
class BertConfig:
    """Its sizes, as `config.json` gives them."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> BertConfig:
        """Sizes that are whole numbers and fit one another.

        Raises:
            ValueError: they are not, or it is another architecture than BERT's own.
        """
        wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for name, value in wanted.items():
            if said.get(name, None if name == "model_type" else value) != value:
                raise ValueError(f"{name} is {str(said.get(name))[:40]}, where {value} is read")
        sizes = {name: said.get(name) for name in cls.__annotations__ if name != "layer_norm_eps"}
        for name, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 1 << 20:
                raise ValueError(f"{name} is {str(size)[:40]}")
        eps = said.get("layer_norm_eps", 1e-12)
        if not isinstance(eps, float) or not 0.0 < eps < 0.1:
            raise ValueError(f"layer_norm_eps is {str(eps)[:40]}")
        found = cls(layer_norm_eps=eps, **sizes)  # type: ignore[arg-type]  # checked above
        if found.hidden_size % found.num_attention_heads:
            raise ValueError(f"{found.num_attention_heads} heads do not share {found.hidden_size}")
        return found


class Bert:
    """Outputs (N, T, E) of pieces (N, T); no dropout, no gradient.

    Args:
        config: The sizes.
        weights: By the names that `transformers` writes, `PREFIX` before them or not.

    Raises:
        ValueError: one is missing or has another shape.
    """

    def __init__(self, config: BertConfig, weights: Mapping[str, Tensor]) -> None:
        self.config = config
        self._weights = {
            name.removeprefix(PREFIX): one.float()
            for name, one in weights.items()
            if one.is_floating_point()
        }
        for name, shape in _shapes(config).items():
            found = self._weights.get(name)
            if found is None or tuple(found.shape) != shape:
                there = "missing" if found is None else f"{tuple(found.shape)}, not {shape}"
                raise ValueError(f"the weight {name} is {there}")

    @torch.inference_mode()
    def __call__(self, pieces: Tensor) -> Tensor:
        """What the last layer says of every piece; texts are of one length, none is padded."""
        at = "embeddings."
        x = self._weights[f"{at}word_embeddings.weight"][pieces]
        x = x + self._weights[f"{at}position_embeddings.weight"][: pieces.shape[1]]
        x = self._normed(x + self._weights[f"{at}token_type_embeddings.weight"][0], at)
        for number in range(self.config.num_hidden_layers):
            x = self._layer(x, f"encoder.layer.{number}.")
        return x

    def _layer(self, x: Tensor, at: str) -> Tensor:
        heads = x.shape[0], x.shape[1], self.config.num_attention_heads, -1
        own = f"{at}attention.self."
        q, k, v = (
            self._linear(x, f"{own}{name}.").view(heads).transpose(1, 2)  # (N, H, T, D)
            for name in ("query", "key", "value")
        )
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        said = self._linear(seen, f"{at}attention.output.dense.")
        x = self._normed(x + said, f"{at}attention.output.")
        inner = functional.gelu(self._linear(x, f"{at}intermediate.dense."))
        return self._normed(x + self._linear(inner, f"{at}output.dense."), f"{at}output.")

    def _linear(self, x: Tensor, at: str) -> Tensor:
        return functional.linear(x, self._weights[f"{at}weight"], self._weights[f"{at}bias"])

    def _normed(self, x: Tensor, at: str) -> Tensor:
        weight, bias = (self._weights[f"{at}LayerNorm.{name}"] for name in ("weight", "bias"))
        eps = self.config.layer_norm_eps
        return functional.layer_norm(x, weight.shape, weight, bias, eps)


def _shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Every weight that is read, with its shape."""
    wide, inner = config.hidden_size, config.intermediate_size
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, wide),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, wide),
    }
    norms = ["embeddings."]
    for number in range(config.num_hidden_layers):
        at = f"encoder.layer.{number}."
        square = [f"attention.self.{name}" for name in ("query", "key", "value")]
        layers = dict.fromkeys([*square, "attention.output.dense"], (wide, wide))
        layers |= {"intermediate.dense": (inner, wide), "output.dense": (wide, inner)}
        for name, shape in layers.items():
            found |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
        norms += [f"{at}attention.output.", f"{at}output."]
    for at in norms:
        found |= {f"{at}LayerNorm.{name}": (wide,) for name in ("weight", "bias")}
    return found
