#!/usr/bin/env python3
"""Writes the tiny random checkpoints of the tests, and what the reference computes for them.

    python3 make_tiny_checkpoints.py OUT [NAME ...]        all of them by default
    python3 make_tiny_checkpoints.py --check OUT           compare with what is there

Each folder OUT/NAME is a complete checkpoint (config.json, tokenizer.json, weights);
OUT/NAME/golden/expected.safetensors holds

    ids         I32 [T]         the tokens
    logits      F32 [T, V]      after each of them
    hidden      F32 [L, T, D]   the residual stream after each layer
    experts.I   I32 [T, K]      the experts chosen in mixture layer I, most probable first
    weights.I   F32 [T, K]      their weights

computed in float64 on the weights as stored. Weights are a function of seed and name
(step3_layout.py). Tokens are drawn so that at every position and layer the last chosen expert
lies clear of the first refused one: rounding in the engine must not change the routing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import step3_layout as layout
from safetensors_io import Checkpoint, Stored, narrow, write_file
from step3_layout import Shape, TensorPlan, VisionShape
from step3_reference import Step3Reference, Trace
from vision_golden import write_vision_golden

SEED = 20250725
HEAD_GAIN = 3.0
ABSENT = "absent"


@dataclass(frozen=True)
class Recipe:
    """One tiny checkpoint."""

    name: str
    note: str
    shape: Shape
    dtype: str = "F32"
    quantised: tuple[str, ...] = ()
    """Which kinds of tensors are E4M3 with block scales."""
    scale_dtype: str = "F32"
    wide_kinds: tuple[str, ...] = ()
    """Which kinds stay F32 in a BF16 checkpoint."""
    shards: int = 1
    tied: bool = False
    vision: VisionShape | None = None
    nested_names: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    """Changes of the text configuration; `ABSENT` removes a key."""
    tokens: int = 32


# Head dimension 32 and hidden size a multiple of 32 where vLLM is to compute the same file.
SMALL = Shape(32, 4, (0, 3), 64, 4, 32, 24, 6, 3, 24, 40, 288)
MEDIUM = Shape(64, 4, (0, 3), 80, 4, 32, 40, 8, 3, 24, 40, 288)
ODD = Shape(52, 3, (0,), 61, 3, 18, 37, 5, 2, 23, 29, 277)
BLOCKS = Shape(136, 2, (0,), 140, 6, 24, 132, 4, 2, 40, 132, 273)
DENSE = Shape(40, 2, (0, 1), 56, 2, 32, 24, 4, 2, 24, 24, 288)
SPLIT = Shape(64, 2, (1,), 48, 3, 32, 48, 4, 3, 24, 32, 288)

RECIPES = [
    Recipe(
        "dense-f32", "no mixture layer: moe_layers_enum is \"-1\"; one file",
        Shape(48, 2, (0, 1), 96, 4, 16, 24, 6, 3, 24, 40, 288), tokens=40),
    Recipe("moe-f32", "dense first and last layer, mixture between; the enum is a string", SMALL),
    Recipe("moe-bf16", "BF16, three shards with an index", MEDIUM, "BF16", shards=3),
    Recipe(
        "moe-fp8", "every text linear block-FP8, blocks cut off at 8, 4, 12 and 16 wide edges",
        BLOCKS, "BF16", quantised=("linear", "expert"), tokens=24),
    Recipe(
        "experts-fp8", "only the routed experts FP8, BF16 scales, mixture layer first, two shards",
        Shape(130, 2, (1,), 33, 2, 20, 24, 4, 2, 129, 32, 273), "BF16", quantised=("expert",),
        scale_dtype="BF16", shards=2, tokens=24),
    Recipe("odd-f32", "no width is a multiple of a vector or a block", ODD),
    Recipe("odd-bf16", "the same widths in BF16, two shards", ODD, "BF16", shards=2),
    Recipe(
        "normed-f32", "norm_expert_weight true; the enum is a list; rope_parameters, theta 10000",
        SPLIT, config={
            "norm_expert_weight": True, "moe_layers_enum": [0], "rope_theta": ABSENT,
            "rope_scaling": ABSENT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    Recipe(
        "nested-bf16", "nested configuration with a small vision tower, nested tensor names",
        SMALL, "BF16", vision=VisionShape(24, 40, 2, 2, 56, 14, 20), nested_names=True, shards=2),
    Recipe(
        "enum-null-f32", "the enum is null: every layer but the first is a mixture",
        Shape(32, 3, (0,), 64, 4, 32, 24, 5, 2, 24, 40, 288), config={"moe_layers_enum": None}),
    Recipe(
        "all-experts-bf16", "no dense layer, every expert chosen (top 4 of 4)",
        Shape(64, 2, (), 64, 4, 32, 24, 4, 4, 32, 40, 288), "BF16"),
    Recipe(
        "mixed-bf16", "BF16 linears, F32 norms and router", SMALL, "BF16",
        wide_kinds=("norm", "router")),
    Recipe(
        "longrope-f32", "rope type \"su\", original context 64 of 256: attention factor above 1",
        SPLIT, config={
            "max_position_embedding": 256, "max_seq_len": 256,
            "rope_scaling": {
                "rope_type": "su", "original_max_position_embeddings": 64,
                "short_factor": [round(1 + 0.07 * i, 2) for i in range(16)],
                "long_factor": [round(1 + 0.9 * i, 2) for i in range(16)]}}),
    Recipe(
        "defaults-f32", "keys left out (eps, theta, norm_expert_weight, context), share_q_dim 0",
        Shape(32, 2, (0,), 64, 4, 16, 16, 6, 3, 24, 40, 288), config={
            "share_q_dim": 0, "rms_norm_eps": ABSENT, "rope_theta": ABSENT,
            "rope_scaling": ABSENT, "norm_expert_weight": ABSENT, "max_seq_len": ABSENT,
            "max_position_embedding": ABSENT, "num_attention_groups": ABSENT,
            "tie_word_embeddings": ABSENT}),
    Recipe(
        "tied-f32", "no lm_head.weight: the embedding is the head",
        Shape(48, 2, (0,), 64, 4, 16, 24, 5, 2, 24, 40, 288), tied=True,
        config={"tie_word_embeddings": True}),
    Recipe(
        "vision-f32", "a tower of 13 x 13 patches, stride 2, head dimension 10", DENSE,
        vision=VisionShape(30, 50, 3, 3, 52, 4, 20)),
    Recipe(
        "vision-stride-bf16", "the real counts of tokens (169 and 81) by stride 1; projector bias",
        DENSE, "BF16", vision=VisionShape(32, 56, 2, 2, 52, 2, 24, 1, True), nested_names=True,
        shards=2),
    Recipe(
        "vision-odd-f32", "odd widths, separate q, k and v, class token [C], another epsilon",
        DENSE, vision=VisionShape(
            21, 35, 2, 3, 39, 3, 13, 1, separate_queries=True, flat_class_token=True,
            epsilon=1e-3)),
    Recipe(
        "wide-vocabulary-f32", "2051 tokens, most of which the tokenizer does not have",
        Shape(24, 2, (0,), 32, 2, 12, 16, 4, 2, 16, 16, 2051), tokens=24),
]  # fmt: skip


# Weights -------------------------------------------------------------------------------------


def quantise(plan: TensorPlan, values: np.ndarray, scale_dtype: str) -> list[Stored]:
    """E4M3 codes and block scales; the blocks' magnitudes differ, so that a swap would show."""
    *leading, rows, columns = plan.shape
    blocks = (*leading, -(-rows // 128), -(-columns // 128))
    count = int(np.prod(blocks))
    strength = 1 + 0.75 * layout.uniform(plan.name + "#blocks", SEED, 0, count).reshape(blocks)
    strength /= np.sqrt(np.mean(strength**2))
    scales = narrow((strength * plan.half_width / 448).astype(np.float32), scale_dtype)
    codes = narrow(values.reshape(plan.shape) * np.float32(448 / plan.half_width), "F8_E4M3")
    return [
        Stored(plan.name, "F8_E4M3", codes),
        Stored(plan.name + "_scale_inv", scale_dtype, scales.reshape(blocks)),
    ]


def stored(recipe: Recipe, plan: TensorPlan) -> list[Stored]:
    """One tensor as the recipe stores it."""
    values = layout.values(plan, SEED + layout.name_hash(recipe.name) % 65536)
    if plan.kind in recipe.quantised:
        return quantise(plan, values, recipe.scale_dtype)
    dtype = "F32" if plan.kind in recipe.wide_kinds else recipe.dtype
    return [Stored(plan.name, dtype, narrow(values, dtype).reshape(plan.shape))]


def nested(name: str) -> str:
    """The name that a checkpoint saved again by the hub's own class carries."""
    if name.startswith("model."):
        return "model.language_model." + name.removeprefix("model.")
    return name if name == "lm_head.weight" else "model." + name


def tensors(recipe: Recipe) -> list[Stored]:
    """Every tensor of a checkpoint, in file order."""
    plans = list(layout.text_tensors(recipe.shape, HEAD_GAIN))
    if recipe.tied:
        # A head of its own is missing; the embedding's spread then sets that of the logits.
        plans = [plan for plan in plans if plan.name != "lm_head.weight"]
        width = layout.spread(recipe.shape.hidden, HEAD_GAIN)
        plans[0] = TensorPlan(plans[0].name, plans[0].shape, 0.0, width, "embedding")
    if recipe.vision:
        plans += layout.vision_tensors(recipe.vision, recipe.shape.hidden)
    result = [tensor for plan in plans for tensor in stored(recipe, plan)]
    if recipe.nested_names:
        result = [Stored(nested(t.name), t.dtype, t.codes) for t in result]
    return result


# Files ---------------------------------------------------------------------------------------


def write_json(path: Path, document: Any) -> None:
    """One JSON document, readable."""
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def configuration(recipe: Recipe) -> dict[str, Any]:
    """The document of config.json."""
    text = layout.text_config(recipe.shape, "float32" if recipe.dtype == "F32" else "bfloat16")
    text.update(recipe.config)
    text = {key: value for key, value in text.items() if value != ABSENT}
    document = layout.multimodal_config(text, recipe.vision) if recipe.vision else text
    if recipe.quantised:
        document["quantization_config"] = layout.FP8_CONFIG
    return document


def write_weights(folder: Path, recipe: Recipe) -> None:
    """One file, or shards of about equal size and their index."""
    everything = tensors(recipe)
    if recipe.shards == 1:
        write_file(folder / "model.safetensors", everything)
        return
    total = sum(tensor.codes.nbytes for tensor in everything)
    shards: list[list[Stored]] = [[] for _ in range(recipe.shards)]
    written = 0
    for tensor in everything:
        shards[min(written * recipe.shards // total, recipe.shards - 1)].append(tensor)
        written += tensor.codes.nbytes
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{recipe.shards:05d}.safetensors"
        write_file(folder / name, shard)
        weight_map.update({tensor.name: name for tensor in shard})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def clear_tokens(model: Step3Reference, recipe: Recipe, candidates: int = 40) -> list[int]:
    """A token sequence whose routing margins are wide, found position by position.

    The model is causal, so what was accepted before stays as it was. The best of `candidates`
    is taken where none is wide enough.
    """
    required = 0.05 if recipe.dtype == "F32" else 0.25
    generator = np.random.Generator(np.random.PCG64(layout.name_hash(recipe.name)))
    ids: list[int] = []
    while len(ids) < recipe.tokens:
        best, best_margin = 0, -1.0
        for candidate in generator.integers(0, recipe.shape.vocabulary, candidates):
            trace = Trace()
            model.logits([*ids, int(candidate)], trace)
            margin = min((float(m[-1]) for m in trace.margins.values()), default=np.inf)
            if margin > best_margin:
                best, best_margin = int(candidate), margin
            if margin >= required:
                break
        if best_margin < required / 2 and recipe in RECIPES:
            print(f"{recipe.name}: margin {best_margin:.3f} at {len(ids)}", file=sys.stderr)
        ids.append(best)
    return ids


def write_golden(folder: Path, recipe: Recipe) -> str:
    """What the reference computes; returns a line about it."""
    model = Step3Reference(folder)
    ids = clear_tokens(model, recipe)
    trace = Trace()
    logits = model.logits(ids, trace)
    golden = folder / "golden"
    golden.mkdir(exist_ok=True)
    result = [
        Stored("ids", "I32", np.asarray(ids, np.int32)),
        Stored("logits", "F32", logits.astype(np.float32)),
        Stored("hidden", "F32", np.stack(trace.hidden).astype(np.float32)),
    ]
    for layer in sorted(trace.experts):
        result.append(Stored(f"experts.{layer}", "I32", trace.experts[layer].astype(np.int32)))
        result.append(Stored(f"weights.{layer}", "F32", trace.weights[layer].astype(np.float32)))
    write_file(golden / "expected.safetensors", result)
    ranked = np.sort(logits, axis=-1)
    facts = {
        "ids": ids,
        "logits_range": float(logits.max() - logits.min()),
        "logits_standard_deviation": float(logits.std()),
        "smallest_top_1_margin": float((ranked[:, -1] - ranked[:, -2]).min()),
        "smallest_router_margin": min(
            (float(m.min()) for m in trace.margins.values()), default=None
        ),
    }
    write_json(golden / "expected.json", facts)
    spread, margin = facts["logits_standard_deviation"], facts["smallest_router_margin"]
    return f"logits spread {spread:.2f}, router margin {margin if margin else 0:.3f}"


def write_documents(folder: Path, recipe: Recipe) -> None:
    """config.json, generation_config.json and the tokenizer."""
    write_json(folder / "config.json", configuration(recipe))
    write_json(folder / "tokenizer.json", layout.byte_tokenizer())
    write_json(folder / "tokenizer_config.json", layout.tokenizer_config())
    ends = [layout.TOKEN_ID["<|EOT|>"], layout.TOKEN_ID["<｜end▁of▁sentence｜>"]]
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": layout.TOKEN_ID["<｜begin▁of▁sentence｜>"], "eos_token_id": ends},
    )


def write_checkpoint(root: Path, recipe: Recipe) -> None:
    """One folder, complete."""
    folder = root / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    write_documents(folder, recipe)
    write_weights(folder, recipe)
    golden = write_golden(folder, recipe)
    if recipe.vision:
        golden += "; " + write_vision_golden(folder, recipe.name, recipe.vision)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{recipe.name:22} {size / 1000:6.0f} kB  {golden}", file=sys.stderr)


# Records -------------------------------------------------------------------------------------


def write_record(root: Path) -> None:
    """CHECKSUMS: versions, and the SHA-256 of every file."""
    lines = [f"# make_tiny_checkpoints.py, numpy {np.__version__}, seed {SEED}"]
    for path in sorted(p for p in root.rglob("*") if p.parent != root and p.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digest}  {path.relative_to(root)}")
    (root / "CHECKSUMS").write_text("\n".join(lines) + "\n")


def differences(expected: Path, found: Path) -> list[str]:
    """Files that are not byte for byte equal; golden tensors may differ by rounding."""
    result = []
    for path in sorted(p for p in expected.rglob("*") if p.is_file()):
        relative = path.relative_to(expected)
        other = found / relative
        if not other.exists():
            result.append(f"{relative}: missing")
        elif "golden" not in relative.parts and path.read_bytes() != other.read_bytes():
            result.append(f"{relative}: differs")
    folders = [Path(recipe.name) / "golden" for recipe in RECIPES]
    folders += [Path(recipe.name) / "golden" / "vision" for recipe in RECIPES if recipe.vision]
    for golden in folders:
        ours, theirs = Checkpoint(expected / golden), Checkpoint(found / golden)
        for name in ours.entries:
            if not np.allclose(ours.tensor(name), theirs.tensor(name), rtol=1e-4, atol=1e-4):
                result.append(f"{golden}: {name} differs")
    return result


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes the tiny checkpoints of the tests.")
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--check", action="store_true", help="compare OUT with a fresh set")
    arguments = parser.parse_args()
    if arguments.check:
        with tempfile.TemporaryDirectory() as temporary:
            for recipe in RECIPES:
                write_checkpoint(Path(temporary), recipe)
            found = differences(Path(temporary), arguments.out)
        print("\n".join(found) or "equal")
        return 1 if found else 0
    for recipe in RECIPES:
        if not arguments.names or recipe.name in arguments.names:
            write_checkpoint(arguments.out, recipe)
    write_record(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
