"""Writes a checkpoint as GGUF v3: matrices Q8_0, norms F32, vocabulary and chat template inside.

    export.py [--run DIR] [--out FILE] [--type Q8_0|F16|F32]
"""

import argparse
import json
import sys
from pathlib import Path

import torch

import tokenizer
from model import Shape

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
from gguf_write import GGUFWriter  # noqa: E402

NAME = "bud-story-4m"
FILE_TYPE = {"F32": 0, "F16": 1, "Q8_0": 7}
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3


def add_shape(w, shape):
    for key, value in {
        "context_length": shape.context, "embedding_length": shape.channels,
        "block_count": shape.layers, "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads, "attention.head_count_kv": shape.heads,
        "attention.layer_norm_rms_epsilon": float(shape.norm_eps),
        "rope.dimension_count": shape.channels // shape.heads,
        "rope.freq_base": float(shape.rope_base), "vocab_size": shape.vocab,
    }.items():
        w.add("llama." + key, value)


def add_vocabulary(w):
    bpe = json.loads(tokenizer.FILE.read_text())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]]
    w.add("tokenizer.ggml.model", "gpt2")
    w.add("tokenizer.ggml.pre", "gpt-2")
    w.add("tokenizer.ggml.tokens", tokens)
    w.add("tokenizer.ggml.token_type",
          [TOKEN_CONTROL if t in tokenizer.SPECIAL else TOKEN_NORMAL for t in tokens], "i32")
    w.add("tokenizer.ggml.merges", merges)
    w.add("tokenizer.ggml.bos_token_id", tokenizer.BOS)
    w.add("tokenizer.ggml.eos_token_id", tokenizer.IM_END)
    w.add("tokenizer.ggml.eot_token_id", tokenizer.IM_END)
    w.add("tokenizer.ggml.padding_token_id", tokenizer.BOS)
    w.add("tokenizer.ggml.add_bos_token", False)
    w.add("tokenizer.chat_template", tokenizer.TEMPLATE)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--run", type=Path, default=HERE / "run")
    ap.add_argument("--out", type=Path, default=HERE.parent / f"{NAME}.gguf")
    ap.add_argument("--type", choices=FILE_TYPE, default="Q8_0")
    args = ap.parse_args()
    state = torch.load(args.run / "last.pt", map_location="cpu")
    shape = Shape(**state["shape"])
    w = GGUFWriter(str(args.out))
    w.add("general.architecture", "llama")
    w.add("general.type", "model")
    w.add("general.name", NAME)
    w.add("general.description", "A small teller of short stories, trained on generated text.")
    w.add("general.license", "Apache-2.0")
    w.add("general.size_label", f"{sum(p.numel() for p in state['model'].values()) / 1e6:.1f}M")
    w.add("general.file_type", FILE_TYPE[args.type])
    w.add("general.quantization_version", 2)
    add_shape(w, shape)
    add_vocabulary(w)
    for name, p in state["model"].items():
        w.add_tensor(name, p.float().numpy(), args.type if p.dim() == 2 else "F32")
    w.write()
    print(f"{args.out}: {args.out.stat().st_size} bytes, step {state['step']}")


if __name__ == "__main__":
    main()
