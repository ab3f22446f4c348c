#!/usr/bin/env python3
"""Make a GGUF file of a real model's shape with random weights and a made-up vocabulary.

    tools/make_model.py llama-1b Q8_0 -o llama-1b-q8_0.gguf

For benches and tests: speed, memory, loading and the whole path of a request need the true shape
and the true block types, not meaningful weights. Every key and tensor that llama.cpp asks for is
there, so peers can run the same file. The same SHAPE, TYPE and seed give the same bytes.

Types follow llama-quantize: vectors and expert routers stay F32; the matrix that makes the logits
is Q6_K in a K or 4/5-bit file (Q8_0 where 256 does not divide); Q4_K_M gives Q6_K to half of
attn_v and ffn_down; a width that 256 does not divide falls back to a 32-block type.
"""

import argparse
import math
import sys
from dataclasses import dataclass

import numpy as np

from gguf_write import BLOCKS, GGUFWriter, random_blocks

# ---------------------------------------------------------------------------------------------
# Shapes


@dataclass(frozen=True)
class Shape:
    arch: str
    layers: int = 2
    width: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    ff: int = 512
    experts: int = 0
    experts_used: int = 2
    vocab: int = 512
    context: int = 4096
    eps: float = 1e-6
    rope_base: float = 10000.0
    tied: bool = True
    window: int = 0
    family: str = "chatml"     # which special tokens and pre-tokenizer
    llama3_rope: bool = False
    yarn: bool = False


SHAPES = {
    "llama-1b": Shape("llama", 16, 2048, 32, 8, 64, 8192, vocab=128256, context=131072, eps=1e-5,
                      rope_base=500000.0, family="llama3", llama3_rope=True),
    # Four of its layers with a smaller vocabulary: its arithmetic in a quarter of the time.
    "llama-1b-4l": Shape("llama", 4, 2048, 32, 8, 64, 8192, vocab=32064, context=131072, eps=1e-5,
                         rope_base=500000.0, family="llama3", llama3_rope=True),
    "qwen-0.5b": Shape("qwen2", 24, 896, 14, 2, 64, 4864, vocab=151936, context=32768,
                       rope_base=1000000.0),
    "tiny-llama": Shape("llama", family="llama3", llama3_rope=True),
    "tiny-llama-moe": Shape("llama", experts=4, tied=False, family="llama3"),
    "tiny-qwen2": Shape("qwen2"),
    "tiny-qwen3": Shape("qwen3"),
    "tiny-qwen3moe": Shape("qwen3moe", experts=4, tied=False),
    "tiny-gemma2": Shape("gemma2", window=32),
    "tiny-gemma3": Shape("gemma3", layers=6, window=32, rope_base=1000000.0),
    "tiny-phi3": Shape("phi3", tied=False, context=8192),
    "tiny-gpt-oss": Shape("gpt-oss", experts=4, tied=False, window=32, eps=1e-5,
                          rope_base=150000.0, yarn=True),
    # Engines part on YaRN's ramp; without it they do the same arithmetic.
    "tiny-gpt-oss-no-yarn": Shape("gpt-oss", experts=4, tied=False, window=32, eps=1e-5,
                                  rope_base=150000.0),
}

VOCAB_STREAM = 12  # the vocabulary's own random numbers, the same whatever shapes there are

# ---------------------------------------------------------------------------------------------
# Tensor types

FILE_TYPE = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K": 11, "Q4_K": 14, "Q4_K_M": 15, "Q5_K": 16, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
    "BF16": 32, "MXFP4": 38,
}

# Where 256 does not divide a row; F16 where 32 does not either.
FALLBACK = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL",
            "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def more_bits(layer, layers):
    """The layers whose attn_v and ffn_down a Q4_K_M file keeps in Q6_K."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def matrix_type(shape, file_type, name, layer, n_cols):
    kind = "Q4_K" if file_type == "Q4_K_M" else file_type
    logits = "token_embd.weight" if shape.tied else "output.weight"
    if name == logits and kind not in ("F32", "F16", "BF16", "Q8_0"):
        kind = "Q8_0" if file_type == "MXFP4" or n_cols % 256 else "Q6_K"
    elif file_type == "Q4_K_M" and ("attn_v." in name or "ffn_down" in name):
        kind = "Q6_K" if more_bits(layer, shape.layers) else kind
    if n_cols % BLOCKS[kind][0]:
        kind = FALLBACK.get(kind, "F16")
    return kind if n_cols % BLOCKS[kind][0] == 0 else "F16"


# ---------------------------------------------------------------------------------------------
# Vocabulary: 256 bytes, then merges of made-up words, then special tokens

SPECIALS = {
    # family: (pre-tokenizer, special tokens in use, their number, beginning, end, BOS added)
    "llama3": ("llama-bpe", ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                             "<|end_header_id|>", "<|eot_id|>"], 256, 0, 4, True),
    "chatml": ("qwen2", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 293, 0, 2, False),
}

TEMPLATES = {
    "llama3": "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}"
              "<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>{% endfor %}"
              "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
              "{% endif %}",
    "chatml": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
              "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}


def byte_letters():
    """The printable letter that stands for each byte in byte-level BPE, in GPT-2's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def plain_tokens(n_tokens, rng):
    """n_tokens byte-level BPE tokens and their merges: lower-case words, some after a space."""
    tokens = byte_letters()
    space = chr(256 + 32)
    parts = [space] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    n_letters, seen, merges = len(parts), set(tokens), []

    def merge(left, right):
        word = left + right
        if word in seen or space in right or len(word) > 12:
            return
        seen.add(word)
        tokens.append(word)
        parts.append(word)
        merges.append(f"{left} {right}")

    for left in parts[:n_letters]:
        for right in parts[1:n_letters]:
            if len(tokens) < n_tokens:
                merge(left, right)
    while len(tokens) < n_tokens:
        # A right part among the short early ones keeps words pronounceable in length.
        picks = rng.random((4096, 2))
        for x, y in picks:
            if len(tokens) < n_tokens:
                merge(parts[int(x * len(parts))], parts[1 + int(y * min(len(parts) - 1, 2000))])
    return tokens, merges


def add_vocab(w, shape, rng):
    pre, names, n_special, bos, eos, add_bos = SPECIALS[shape.family]
    # llama.cpp asks for these of every phi3 model.
    names = names + ["<unk>", "<s>", "</s>"] if shape.arch == "phi3" else names
    n_special = min(n_special, shape.vocab // 16)
    n_plain = shape.vocab - n_special
    tokens, merges = plain_tokens(n_plain, rng)
    tokens += names + [f"<|reserved_{i}|>" for i in range(n_special - len(names))]
    w.add("tokenizer.ggml.model", "gpt2")
    w.add("tokenizer.ggml.pre", pre)
    w.add("tokenizer.ggml.tokens", tokens, "str")
    w.add("tokenizer.ggml.token_type", [1] * n_plain + [3] * n_special, "i32")
    w.add("tokenizer.ggml.merges", merges, "str")
    w.add("tokenizer.ggml.bos_token_id", n_plain + bos)
    w.add("tokenizer.ggml.eos_token_id", n_plain + eos)
    w.add("tokenizer.ggml.padding_token_id", n_plain)
    w.add("tokenizer.ggml.add_bos_token", add_bos)
    w.add("tokenizer.chat_template", TEMPLATES[shape.family])


# ---------------------------------------------------------------------------------------------
# Keys and tensors of each architecture

def add_keys(w, s):
    rows = {
        "vocab_size": s.vocab, "context_length": s.context, "embedding_length": s.width,
        "block_count": s.layers, "feed_forward_length": s.ff, "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads, "attention.key_length": s.head_size,
        "attention.value_length": s.head_size, "attention.layer_norm_rms_epsilon": s.eps,
        "rope.dimension_count": s.head_size, "rope.freq_base": s.rope_base,
    }
    if s.experts:
        rows |= {"expert_count": s.experts, "expert_used_count": s.experts_used}
    if s.arch in ("qwen3moe", "gpt-oss"):
        rows["expert_feed_forward_length"] = s.ff
    if s.arch in ("gemma2", "gemma3", "gpt-oss", "phi3"):
        rows["attention.sliding_window"] = s.window
    if s.arch == "gemma2":
        rows |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    if s.arch == "gemma3":
        rows["rope.freq_base_swa"] = 10000.0
    if s.yarn:
        rows |= {"rope.scaling.type": "yarn", "rope.scaling.factor": 32.0,
                 "rope.scaling.original_context_length": 4096}
    if s.arch == "phi3":
        scale = s.context / 4096
        rows |= {"rope.scaling.original_context_length": 4096,
                 "rope.scaling.attn_factor": math.sqrt(1 + math.log(scale) / math.log(4096))}
    for key, value in rows.items():
        w.add(f"{s.arch}.{key}", value)


def llama3_factors(s):
    """Llama 3's frequency divisors: 1 for short waves, 32 for long, a blend between."""
    wave = 2 * math.pi * s.rope_base ** (np.arange(0, s.head_size, 2) / s.head_size)
    blend = np.clip((8192 / wave - 1) / (4 - 1), 0, 1)
    return 1 / ((1 - blend) / 32 + blend)


def attention_tensors(s, b):
    q, kv = s.heads * s.head_size, s.kv_heads * s.head_size
    yield f"{b}.attn_norm.weight", (s.width,)
    if s.arch == "phi3":
        yield f"{b}.attn_qkv.weight", (q + 2 * kv, s.width)
    else:
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            yield f"{b}.attn_{part}.weight", (rows, s.width)
            if s.arch in ("qwen2", "gpt-oss"):
                yield f"{b}.attn_{part}.bias", (rows,)
    if s.arch in ("qwen3", "qwen3moe", "gemma3"):
        yield f"{b}.attn_q_norm.weight", (s.head_size,)
        yield f"{b}.attn_k_norm.weight", (s.head_size,)
    yield f"{b}.attn_output.weight", (s.width, q)
    if s.arch == "gpt-oss":
        yield f"{b}.attn_output.bias", (s.width,)
        yield f"{b}.attn_sinks.weight", (s.heads,)
    if s.arch in ("gemma2", "gemma3", "gpt-oss"):
        yield f"{b}.post_attention_norm.weight", (s.width,)


def ffn_tensors(s, b):
    if s.arch != "gpt-oss":
        yield f"{b}.ffn_norm.weight", (s.width,)
    if s.arch == "phi3":
        yield f"{b}.ffn_up.weight", (2 * s.ff, s.width)
        yield f"{b}.ffn_down.weight", (s.width, s.ff)
        return
    if s.experts:
        yield f"{b}.ffn_gate_inp.weight", (s.experts, s.width)
        if s.arch == "gpt-oss":
            yield f"{b}.ffn_gate_inp.bias", (s.experts,)
    stack, suffix = ((s.experts,), "_exps") if s.experts else ((), "")
    for part, rows, columns in (("gate", s.ff, s.width), ("up", s.ff, s.width),
                                ("down", s.width, s.ff)):
        yield f"{b}.ffn_{part}{suffix}.weight", stack + (rows, columns)
        if s.arch == "gpt-oss":
            yield f"{b}.ffn_{part}{suffix}.bias", stack + (rows,)
    if s.arch in ("gemma2", "gemma3"):
        yield f"{b}.post_ffw_norm.weight", (s.width,)


def tensors(s):
    """(name, layer, shape) of every weight that is random."""
    yield "token_embd.weight", 0, (s.vocab, s.width)
    yield "output_norm.weight", 0, (s.width,)
    if not s.tied:
        yield "output.weight", 0, (s.vocab, s.width)
    for layer in range(s.layers):
        for part in (attention_tensors, ffn_tensors):
            for name, shape in part(s, f"blk.{layer}"):
                yield name, layer, shape


def stays_f32(name, shape):
    return len(shape) == 1 or name.endswith(".bias") or "ffn_gate_inp" in name


def random_chunks(kind, shape, seed):
    """A maker of a matrix's bytes, some 16 million weights at a time."""
    n_cols = shape[-1]
    n_rows = int(np.prod(shape[:-1]))
    step = max(1, (1 << 24) // n_cols)

    def chunks():
        rng = np.random.default_rng(seed)
        for at in range(0, n_rows, step):
            yield random_blocks(kind, min(step, n_rows - at), n_cols, rng)
    return chunks


def add_tensors(w, s, file_type, seed):
    if s.llama3_rope:
        w.add_tensor("rope_freqs.weight", llama3_factors(s))
    if s.arch == "phi3":
        for length, most in (("long", 4.0), ("short", 1.1)):
            w.add_tensor(f"rope_factors_{length}.weight", np.linspace(1, most, s.head_size // 2))
    for i, (name, layer, shape) in enumerate(tensors(s)):
        if stays_f32(name, shape):
            noise = np.random.default_rng([seed, i]).standard_normal(shape) * 0.05
            w.add_tensor(name, noise + ("norm" in name))
        else:
            kind = matrix_type(s, file_type, name, layer, shape[-1])
            w.add_lazy(name, shape, kind, random_chunks(kind, shape, [seed, i]))


def make(shape_name, file_type, path, seed=1):
    s = SHAPES[shape_name]
    w = GGUFWriter(path)
    w.add("general.architecture", s.arch)
    w.add("general.type", "model")
    w.add("general.name", f"{shape_name} random weights")
    w.add("general.file_type", FILE_TYPE[file_type])
    w.add("general.quantization_version", 2)
    add_keys(w, s)
    add_vocab(w, s, np.random.default_rng([seed, VOCAB_STREAM]))
    add_tensors(w, s, file_type, seed)
    w.write()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("shape", choices=SHAPES, metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("type", choices=FILE_TYPE, metavar="TYPE", help=", ".join(FILE_TYPE))
    parser.add_argument("-o", dest="path", metavar="FILE", help="default: SHAPE-TYPE.gguf")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    make(args.shape, args.type, args.path or f"{args.shape}-{args.type}.gguf", args.seed)


if __name__ == "__main__":
    sys.exit(main())
