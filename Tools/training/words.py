"""What vector stands for every code: the language model's own words, so that it stays as it is."""

from __future__ import annotations

from pathlib import Path

import torch
from scenes import COUNTS, DIGITS, code_names

START, END = "Picture", "\n"
"""The words in the places of <im_start> and <im_end>."""


class Words:
    """The tokenizer and the embeddings of the text model."""

    def __init__(self, gguf: str | Path, tokenizer: str | Path):
        from gguf import GGUFReader
        from gguf.quants import dequantize
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(tokenizer) / "tokenizer.json"))
        table = next(t for t in GGUFReader(gguf).tensors if t.name == "token_embd.weight")
        values = torch.tensor(dequantize(table.data, table.tensor_type).astype("float32"))
        self.embedding = values.reshape(*(int(n) for n in reversed(table.shape)))

    def vector(self, text: str) -> torch.Tensor:
        """The embedding of a token; the mean where a text has several."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.embedding[ids].mean(0)

    def table(self) -> torch.Tensor:
        """A vector per code, [codes, text hidden]."""
        rows = []
        for name in code_names():
            slot, value = name.split(":", 1)
            if slot == "always":
                text = value
            elif value == "-" or (slot, value) == ("kind", "shape"):
                text = " "
            elif slot == "count":
                text = str(COUNTS.index(value) + 1)
            elif slot in ("digit", "second", "third"):
                text = str(DIGITS.index(value))
            else:
                text = " " + value
            rows.append(self.vector(text))
        return torch.stack(rows)
