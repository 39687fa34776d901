"""The vision tower and projector of Step3 in PyTorch, at any size, for training.

The same mathematics as the checkpoint layout asks for (patch convolution, class token and its
three copies, blocks with the norm on the branch, quick-GELU, two strided convolutions, linear
projector); `export` writes it under the names of the layout. Training differs in three places that
the export undoes: queries, keys and values are three matrices here and one tensor there, the
activation is SiLU here (quick_gelu(t) = silu(1.702 t) / 1.702: a factor of fc1 and fc2), and the
projector ends in *codes* (one number per word that the tower knows), which a table of word
vectors turns into embeddings of the language model: projector = table @ codes, one matrix.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class TowerShape:
    """The sizes of a tower, named as in its configuration."""

    image_size: int = 64
    patch_size: int = 8
    hidden: int = 128
    layers: int = 6
    heads: int = 8
    ffn: int = 384
    output: int = 128
    stride: int = 1
    codes: int = 64

    @property
    def grid(self) -> int:
        """Patches on a side."""
        return self.image_size // self.patch_size

    @property
    def side(self) -> int:
        """Image tokens on a side."""
        first = (self.grid - 2) // self.stride + 1
        return (first + 2 - 3) // 2 + 1

    def asdict(self) -> dict:
        return asdict(self)


POSITION_FREQUENCIES = (2 * math.pi / 26, 2 * math.pi / 13, 2 * math.pi / 8, 2 * math.pi / 5)
"""Radians per patch of the starting position table: four per axis, unique within 12 patches."""

REACHES = ((1.0, 3.5), (2.0, 2.5), (1.0, 3.5), (2.0, 2.5), (3.0, 2.0))
"""How many patches away the heads of the first layers look at first, and how sharply."""

POSITION_CHANNELS = 4 * len(POSITION_FREQUENCIES)


def position_rows(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of positions: [n, POSITION_CHANNELS], columns first, pairs adjacent."""
    parts = []
    for axis in (columns, rows):
        for frequency in POSITION_FREQUENCIES:
            parts += [torch.sin(axis * frequency), torch.cos(axis * frequency)]
    return torch.stack(parts, -1)


class Block(nn.Module):
    """x + LN(attention(x)), then x + LN(mlp(x))."""

    def __init__(self, s: TowerShape):
        super().__init__()
        c = s.hidden
        self.heads = s.heads
        self.q, self.k, self.v = (nn.Linear(c, c) for _ in range(3))
        self.out_proj = nn.Linear(c, c)
        self.layer_norm1 = nn.LayerNorm(c, eps=1e-5)
        self.fc1 = nn.Linear(c, s.ffn)
        self.fc2 = nn.Linear(s.ffn, c)
        self.layer_norm2 = nn.LayerNorm(c, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(b, t, self.heads, c // self.heads).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(x)), split(self.v(x)))
        x = x + self.layer_norm1(self.out_proj(y.transpose(1, 2).reshape(b, t, c)))
        return x + self.layer_norm2(self.fc2(F.silu(self.fc1(x))))


class Tower(nn.Module):
    """Normalised pixels [n, 3, image_size, image_size] to codes [n, tokens, codes]."""

    def __init__(self, shape: TowerShape):
        super().__init__()
        self.shape = s = shape
        c = s.hidden
        self.patch = nn.Conv2d(3, c, s.patch_size, s.patch_size)
        self.class_embedding = nn.Parameter(torch.zeros(1, c))
        self.position = nn.Parameter(torch.zeros(s.grid**2 + 1, c))
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.down1 = nn.Conv2d(c, s.output, 2, s.stride)
        self.down2 = nn.Conv2d(s.output, 2 * s.output, 3, 2, 1)
        self.codes = nn.Linear(2 * s.output, s.codes, bias=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Starts as a network of neighbourhoods: the last channels hold sines of the position,
        and the heads of the first layers look one (two) patches away in eight directions."""
        s, c = self.shape, self.shape.hidden
        p = POSITION_CHANNELS
        content = c - p
        weight = torch.zeros_like(self.patch.weight)
        fan = weight[0].numel()
        weight[:content].normal_(0, fan**-0.5)
        # Smooth filters first: low frequencies carry most of a picture.
        self.patch.weight.copy_(weight + 0.5 * weight.mean((2, 3), keepdim=True) * s.patch_size)
        self.patch.bias.zero_()
        self.class_embedding.normal_(0, 0.5)
        self.class_embedding[:, content:] = 0
        grid = torch.arange(s.grid, dtype=torch.float32)
        rows, columns = torch.meshgrid(grid, grid, indexing="ij")
        self.position[1:, content:] = position_rows(rows.flatten(), columns.flatten())
        directions = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
        d = c // s.heads
        for i, block in enumerate(self.blocks):
            for linear in (block.q, block.k, block.v, block.out_proj, block.fc1, block.fc2):
                linear.weight.normal_(0, linear.in_features**-0.5)
                linear.bias.zero_()
            for norm in (block.layer_norm1, block.layer_norm2):
                norm.weight[content:] = 0.05
            if i >= len(REACHES) or d < p or s.heads != len(directions):
                block.q.weight.mul_(0.5)
                block.k.weight.mul_(0.5)
                continue
            block.q.weight.mul_(0.1)
            block.k.weight.mul_(0.1)
            reach, gain = REACHES[i][0], REACHES[i][1] * d**0.5
            for head, (dy, dx) in enumerate(directions):
                start = head * d
                for j in range(p // 2):
                    axis = dx if j < p // 4 else dy
                    turn = POSITION_FREQUENCIES[j % (p // 4)] * axis * reach
                    a, b = start + 2 * j, start + 2 * j + 1
                    u, v = content + 2 * j, content + 2 * j + 1
                    # sin(x+t) = sin x cos t + cos x sin t; cos(x+t) = cos x cos t - sin x sin t
                    block.q.weight[a, u], block.q.weight[a, v] = math.cos(turn), math.sin(turn)
                    block.q.weight[b, v], block.q.weight[b, u] = math.cos(turn), -math.sin(turn)
                    block.k.weight[a, u] = block.k.weight[b, v] = gain
        for conv in (self.down1, self.down2):
            conv.weight.normal_(0, conv.weight[0].numel() ** -0.5)
            conv.bias.zero_()
        self.codes.weight.normal_(0, 0.02 * (2 * s.output) ** -0.5)

    def features(self, pixels: torch.Tensor, taps: tuple[int, ...] = ()):
        """Patch features [n, grid², hidden] after all layers, and those after `taps` layers."""
        n = len(pixels)
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(n, -1, -1), x], 1) + self.position
        x = torch.cat([x[:, :1].expand(-1, 3, -1), x], 1)
        tapped = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i + 1 in taps:
                tapped.append(x[:, 4:])
        return x[:, 4:], tapped

    def image_tokens(self, features: torch.Tensor) -> torch.Tensor:
        """[n, grid², hidden] to the projector's input [n, tokens, 2 * output]."""
        s = self.shape
        x = features.transpose(1, 2).reshape(len(features), -1, s.grid, s.grid)
        return self.down2(self.down1(x)).flatten(2).transpose(1, 2)

    def forward(self, pixels: torch.Tensor, taps: tuple[int, ...] = ()):
        x, tapped = self.features(pixels, taps)
        return self.codes(self.image_tokens(x)), tapped

    @torch.no_grad()
    def restore(self, w: dict[str, torch.Tensor], codes: torch.Tensor) -> None:
        """The inverse of `export`; `codes` is what the projector does not tell."""
        name = "vision_model.embeddings."
        self.class_embedding.copy_(w[name + "class_embedding"])
        self.patch.weight.copy_(w[name + "patch_embedding.weight"])
        self.patch.bias.copy_(w[name + "patch_embedding.bias"])
        self.position.copy_(w[name + "position_embedding.weight"])
        for i, b in enumerate(self.blocks):
            name = f"vision_model.transformer.layers.{i}."
            for part in ("weight", "bias"):
                fused = w[f"{name}self_attn.qkv_proj.{part}"].chunk(3)
                for linear, value in zip((b.q, b.k, b.v), fused):
                    getattr(linear, part).copy_(value)
                getattr(b.out_proj, part).copy_(w[f"{name}self_attn.out_proj.{part}"])
                for norm in ("layer_norm1", "layer_norm2"):
                    getattr(getattr(b, norm), part).copy_(w[f"{name}{norm}.{part}"])
                getattr(b.fc1, part).copy_(w[f"{name}mlp.fc1.{part}"] * 1.702)
            b.fc2.weight.copy_(w[name + "mlp.fc2.weight"] / 1.702)
            b.fc2.bias.copy_(w[name + "mlp.fc2.bias"])
        for ours, theirs in ((self.down1, "vit_downsampler"), (self.down2, "vit_downsampler2")):
            ours.weight.copy_(w[theirs + ".weight"])
            ours.bias.copy_(w[theirs + ".bias"])
        self.codes.weight.copy_(codes)

    def export(self, table: torch.Tensor) -> dict[str, torch.Tensor]:
        """The tensors of the checkpoint layout; `table` [codes, text hidden] are word vectors."""
        out = {
            "vision_model.embeddings.class_embedding": self.class_embedding,
            "vision_model.embeddings.patch_embedding.weight": self.patch.weight,
            "vision_model.embeddings.patch_embedding.bias": self.patch.bias,
            "vision_model.embeddings.position_embedding.weight": self.position,
        }
        for i, b in enumerate(self.blocks):
            name = f"vision_model.transformer.layers.{i}."
            for part in ("weight", "bias"):
                fused = torch.cat([getattr(x, part) for x in (b.q, b.k, b.v)])
                out[f"{name}self_attn.qkv_proj.{part}"] = fused
                out[f"{name}self_attn.out_proj.{part}"] = getattr(b.out_proj, part)
                for norm in ("layer_norm1", "layer_norm2"):
                    out[f"{name}{norm}.{part}"] = getattr(getattr(b, norm), part)
                out[f"{name}mlp.fc1.{part}"] = getattr(b.fc1, part) / 1.702
            out[name + "mlp.fc2.weight"] = b.fc2.weight * 1.702
            out[name + "mlp.fc2.bias"] = b.fc2.bias
        for ours, theirs in ((self.down1, "vit_downsampler"), (self.down2, "vit_downsampler2")):
            out[theirs + ".weight"], out[theirs + ".bias"] = ours.weight, ours.bias
        out["vit_large_projector.weight"] = table.T.to(self.codes.weight) @ self.codes.weight
        return {name: value.detach().contiguous() for name, value in out.items()}
