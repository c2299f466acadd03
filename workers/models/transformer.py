"""A small transformer for texts: decoder blocks, normalised first (Radford et al. 2019), without weight tying."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from prunesweep.workers.errors import UserError


class Block(nn.Module):
    """Causal attention, then two layers on each token, each added to what comes in."""

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, rate
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        parts = self.attention(self.first(tokens)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
        tokens = tokens + dropout(self.mixed(attended), self.rate, self.training)
        wide = nn.functional.gelu(self.wide(self.second(tokens)))
        return tokens + dropout(self.narrow(wide), self.rate, self.training)


class Transformer(nn.Module):
    """Tokens int64 [B, T] to logits [B, T, vocabulary] of the token after each."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        """`shape` is (1, 1, T) of a dataset of texts, T the longest sequence."""
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(f"model transformer: width {width} is no multiple of {heads} heads")
        self.tokens, self.places = nn.Embedding(classes, width), nn.Embedding(shape[2], width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes, bias=False)
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.is_floating_point():
            raise UserError(
                "model transformer takes tokens, and gets images: take the dataset text, or one of your own"
            )
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.head(self.norm(self.blocks(self.tokens(tokens) + self.places(places))))
        return logits
