#!/usr/bin/env python3
"""Writes what training made as the folder that `step3 convert --vision` adds to a model.

    python assemble.py TOWER.pt FOLDER --gguf MODEL.gguf --tokenizer FOLDER
    python assemble.py --back TOWER.pt FOLDER      the tower from what was written

FOLDER gets model.safetensors (BF16: the tower under Step3's names, the projector, the rows of the
new tokens in embedding and head) and config.json. Before that, the written tensors are run through
the layout's formulas, written out once more below, and compared with the tower. What only training
needs (the code matrix) goes to `weights/training.safetensors` beside this file, so that training
can go on from what is committed (rounded to BF16, with fresh optimiser state).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scenes import Scenes, code_names, normalised
from tower import Tower, TowerShape
from words import END, START, Words

TOKENS = ["<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>"]


def vision_config(s: TowerShape) -> dict:
    return {
        "model_type": "step3_vision_encoder", "hidden_size": s.hidden,
        "intermediate_size": s.ffn, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_channels": 3, "image_size": s.image_size,
        "patch_size": s.patch_size, "output_hidden_size": s.output, "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5, "enable_patch": False,
    }  # fmt: skip


def layout_forward(w: dict[str, torch.Tensor], config: dict, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels to image tokens [n, tokens, text hidden] by the checkpoint layout's formulas."""
    v, n = config["vision_config"], len(pixels)
    w = {k: t.float() for k, t in w.items()}
    c, heads, p = v["hidden_size"], v["num_attention_heads"], v["patch_size"]
    grid = v["image_size"] // p
    name = "vision_model.embeddings."
    x = F.conv2d(pixels, w[name + "patch_embedding.weight"], w[name + "patch_embedding.bias"], p)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w[name + "class_embedding"][None].expand(n, 1, c), x], 1)
    x = x + w[name + "position_embedding.weight"]
    x = torch.cat([x[:, :1].expand(n, 3, c), x], 1)
    for i in range(v["num_hidden_layers"]):
        name = f"vision_model.transformer.layers.{i}."

        def linear(part: str, y: torch.Tensor) -> torch.Tensor:
            return F.linear(y, w[name + part + ".weight"], w[name + part + ".bias"])

        def norm(part: str, y: torch.Tensor) -> torch.Tensor:
            return F.layer_norm(y, (c,), w[name + part + ".weight"], w[name + part + ".bias"])

        q, k, u = linear("self_attn.qkv_proj", x).view(n, -1, 3, heads, c // heads).unbind(2)
        score = torch.einsum("bqhd,bkhd->bhqk", q, k) * (c // heads) ** -0.5
        y = torch.einsum("bhqk,bkhd->bqhd", score.softmax(-1), u).reshape(n, -1, c)
        x = x + norm("layer_norm1", linear("self_attn.out_proj", y))
        y = linear("mlp.fc1", x)
        x = x + norm("layer_norm2", linear("mlp.fc2", y * torch.sigmoid(1.702 * y)))
    x = x[:, 4:].transpose(1, 2).reshape(n, c, grid, grid)
    stride = config["understand_projector_stride"]
    x = F.conv2d(x, w["vit_downsampler.weight"], w["vit_downsampler.bias"], stride)
    x = F.conv2d(x, w["vit_downsampler2.weight"], w["vit_downsampler2.bias"], 2, 1)
    return x.flatten(2).transpose(1, 2) @ w["vit_large_projector.weight"].T


EXTRA = Path(__file__).parent / "weights" / "training.safetensors"


def write_back(folder: Path, target: Path) -> None:
    """The state dictionary of the tower from a written folder."""
    w = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    tower = Tower(TowerShape(codes=len(code_names())))
    tower.restore(w, load_file(EXTRA)["codes"].float())
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tower.state_dict(), target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--back", type=Path, metavar="TOWER.pt")
    parser.add_argument("paths", type=Path, nargs="+", metavar="TOWER.pt FOLDER")
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    a = parser.parse_args()
    if a.back:
        write_back(a.paths[0], a.back)
        return
    a.tower, a.folder = a.paths
    if not a.gguf or not a.tokenizer:
        parser.error("--gguf and --tokenizer are needed")
    shape = TowerShape(codes=len(code_names()))
    tower = Tower(shape)
    tower.load_state_dict(torch.load(a.tower))
    words = Words(a.gguf, a.tokenizer)
    table = words.table()

    tensors = {k: v.to(torch.bfloat16) for k, v in tower.export(table).items()}
    # Rows that only stand for other vectors are a line break's; nothing else is as neutral.
    texts = {t: "\n" for t in TOKENS} | {"<im_start>": START, "<im_end>": END}
    rows = torch.stack([words.vector(texts[t]) for t in TOKENS])
    tensors["model.embed_tokens.weight"] = rows.bfloat16()
    # The head must never say them: the row of a token that texts do not have.
    unused = words.embedding[words.tokenizer.token_to_id("<gh_stars>")]
    tensors["lm_head.weight"] = unused.expand(len(TOKENS), -1).bfloat16().contiguous()

    config = {
        "vision_config": vision_config(shape), "understand_projector_stride": shape.stride,
        "projector_bias": False, "added_tokens": TOKENS,
    }  # fmt: skip
    pixels = normalised(Scenes(shape.image_size, 3).shapes(4).pixels)
    with torch.no_grad():
        ours = tower(pixels)[0] @ table
        exact = layout_forward(tower.export(table), config, pixels)
        rounded = layout_forward(tensors, config, pixels)
    far = float((ours - exact).abs().max() / ours.abs().max())
    assert far < 1e-4, f"the layout's formulas give something else: {far}"
    same = F.cosine_similarity(rounded.flatten(1), ours.flatten(1)).min()
    a.folder.mkdir(parents=True, exist_ok=True)
    EXTRA.parent.mkdir(exist_ok=True)
    save_file({"codes": tower.codes.weight.detach().bfloat16()}, EXTRA)
    save_file(tensors, a.folder / "model.safetensors", {"format": "pt"})
    (a.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    assert len(load_file(a.folder / "model.safetensors")) == len(tensors)
    size = (a.folder / "model.safetensors").stat().st_size
    print(f"{len(tensors)} tensors, {size} bytes; layout against tower {far:.1e}, "
          f"cosine of BF16 at least {same:.6f}")  # fmt: skip


if __name__ == "__main__":
    main()
