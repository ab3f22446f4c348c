"""Make the architecture goldens: NAME.gguf and NAME.logits in tests/golden/models.

Each case is a tiny model of Hugging Face transformers with fixed random weights, run in float32
with eager attention: its logits are the truth. The GGUF file beside them is that same model as
llama.cpp's converter would write it: names from the `gguf` package's tables, keys as the converter
of each architecture sets them (and leaves out), q and k rows permuted for llama, gemma norms + 1.

    python tests/golden/make/models.py [NAME...]      needs torch, transformers, gguf, numpy
"""

import math
import pathlib
import re
import struct
import sys
import zlib
from dataclasses import dataclass, field

import gguf
import numpy as np
import torch
import transformers as hf

HERE = pathlib.Path(__file__).resolve()
OUT = HERE.parents[1] / "models"
sys.path.insert(0, str(HERE.parents[3] / "tools"))
from gguf_write import GGUFWriter, quantize, row_bytes  # noqa: E402
from make_model import plain_tokens  # noqa: E402

N_PLAIN, N_VOCAB = 266, 272
N_TOKENS = 32
ROWS = [0, 1, 5, 8, 12, 16, 24, 31]
BASE = dict(vocab_size=N_VOCAB, bos_token_id=N_PLAIN, eos_token_id=N_PLAIN + 1,
            pad_token_id=N_PLAIN + 2, max_position_embeddings=256)

# ---------------------------------------------------------------------------------------------
# Cases


@dataclass
class Case:
    arch: str
    config: type
    options: dict
    keys: dict = field(default_factory=dict)     # keys beyond those every architecture has
    pre: str = "llama-bpe"
    types: dict = field(default_factory=dict)    # gguf name -> tensor type; F32 otherwise


def size(width, layers, heads, kv_heads, ff, **more):
    return dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv_heads, intermediate_size=ff, **more)


LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
            original_max_position_embeddings=1024)
# gpt-oss alone does not round the ends of the YaRN ramp to whole dimensions.
OSS_YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0,
                truncate=False, original_max_position_embeddings=1024)
MIX = {"token_embd": "MXFP4", "output": "Q6_K"} | {
    f"blk.{layer}.{name}": kind for layer, kinds in enumerate((
        "Q4_0 BF16 F16 Q8_0 Q4_1 Q5_0 Q5_1", "Q2_K Q6_K Q5_K IQ4_NL Q4_K Q3_K IQ4_XS"))
    for name, kind in zip(("attn_q", "attn_k", "attn_v", "attn_output",
                           "ffn_gate", "ffn_up", "ffn_down"), kinds.split())}


def longrope(dim, theta=10000.0, **more):
    return dict(rope_type="longrope", rope_theta=theta,
                short_factor=[round(1 + 0.05 * i, 2) for i in range(dim // 2)],
                long_factor=[round(1 + 0.75 * i, 2) for i in range(dim // 2)], **more)


CASES = {
    # Llama 2: untied output, no rope factors, grouped heads, no key_length in the file.
    "llama": Case("llama", hf.LlamaConfig, size(48, 2, 4, 2, 64)),
    # Llama 3: rope_freqs tensor, tied output.
    "llama3": Case("llama", hf.LlamaConfig,
                   size(32, 2, 2, 1, 64, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    # Every optional bias of the llama graph.
    "llama-bias": Case("llama", hf.LlamaConfig,
                       size(32, 2, 2, 1, 48, attention_bias=True, mlp_bias=True)),
    # Mistral NeMo: heads wider than width / heads, so key_length counts.
    "mistral": Case("llama", hf.MistralConfig,
                    size(32, 2, 4, 2, 48, head_dim=16, sliding_window=None,
                         rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "mixtral": Case("llama", hf.MixtralConfig,
                    size(32, 2, 4, 2, 32, num_local_experts=4, num_experts_per_tok=2)),
    # Every tensor type in one file; the truth computes with the decoded weights.
    "llama-mix": Case("llama", hf.LlamaConfig, size(256, 2, 2, 1, 256, head_dim=64), types=MIX),
    "qwen2": Case("qwen2", hf.Qwen2Config,
                  size(32, 2, 2, 1, 64, tie_word_embeddings=True,
                       rope_parameters=dict(rope_type="default", rope_theta=1e6)), pre="qwen2"),
    "qwen2-yarn": Case("qwen2", hf.Qwen2Config,
                       size(32, 2, 2, 1, 48, rope_parameters=YARN,
                            max_position_embeddings=4096), pre="qwen2"),
    "qwen3": Case("qwen3", hf.Qwen3Config,
                  size(32, 2, 4, 2, 48, head_dim=16, tie_word_embeddings=True), pre="qwen2"),
    "qwen3moe": Case("qwen3moe", hf.Qwen3MoeConfig,
                     size(32, 2, 4, 2, 96, head_dim=16, moe_intermediate_size=24, num_experts=6,
                          num_experts_per_tok=3, norm_topk_prob=True), pre="qwen2"),
    # Soft caps small enough to bend these logits.
    "gemma2": Case("gemma2", hf.Gemma2Config,
                   size(32, 4, 2, 1, 48, head_dim=24, query_pre_attn_scalar=24, sliding_window=8,
                        attn_logit_softcapping=3.0, final_logit_softcapping=5.0), pre="gpt-2"),
    # Five sliding layers, a global one, a sliding one; 8x linear scaling of the global alone.
    "gemma3": Case("gemma3", hf.Gemma3TextConfig,
                   size(32, 7, 2, 1, 32, head_dim=24, query_pre_attn_scalar=24, sliding_window=8,
                        rope_parameters={
                            "sliding_attention": dict(rope_type="default", rope_theta=10000.0),
                            "full_attention": dict(rope_type="linear", factor=8.0,
                                                   rope_theta=1e6)}), pre="gpt-2"),
    # The same with the keys that older files leave to their defaults.
    "gemma3-keys": Case("gemma3", hf.Gemma3TextConfig,
                        size(32, 4, 2, 1, 32, head_dim=16, query_pre_attn_scalar=16,
                             sliding_window=8, layer_types=["sliding_attention",
                                                            "full_attention"] * 2,
                             rope_parameters={
                                 "sliding_attention": dict(rope_type="default", rope_theta=500.0),
                                 "full_attention": dict(rope_type="default", rope_theta=1e5)}),
                        keys={"attention.sliding_window_pattern": 2,
                              "rope.freq_base_swa": 500.0}, pre="gpt-2"),
    # Context = original context: the short factors, attention factor 1.
    "phi3": Case("phi3", hf.Phi3Config,
                 size(32, 2, 2, 2, 48, max_position_embeddings=64,
                      original_max_position_embeddings=64, rope_parameters=longrope(16)),
                 pre="gpt-2"),
    # Phi-4-mini: the prompt passes the original context, so the long factors; three quarters of
    # a head rotated, grouped heads, tied output.
    "phi3-long": Case("phi3", hf.Phi3Config,
                      size(48, 2, 3, 1, 48, original_max_position_embeddings=16,
                           tie_word_embeddings=True,
                           rope_parameters=longrope(12, partial_rotary_factor=0.75)),
                      pre="gpt-2"),
    # Phi-3-mini-4k: a window on every layer, no rope factors.
    "phi3-window": Case("phi3", hf.Phi3Config,
                        size(32, 2, 2, 2, 48, sliding_window=8,
                             original_max_position_embeddings=256), pre="gpt-2"),
    "gpt-oss": Case("gpt-oss", hf.GptOssConfig,
                    size(32, 3, 4, 2, 32, head_dim=16, num_local_experts=4, num_experts_per_tok=2,
                         sliding_window=8, rope_parameters=OSS_YARN,
                         max_position_embeddings=8192), pre="gpt-4o",
                    types={f"blk.{i}.ffn_{part}_exps": "MXFP4" for i in range(3)
                           for part in ("gate", "up", "down")}),
}

# ---------------------------------------------------------------------------------------------
# Weights: by name, so that no library's random generator matters


def random_weight(case, name, shape):
    """Spreads large enough that every mechanism moves the logits well past the tolerance."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("norm.weight"):
        return 0.2 * x + (0.0 if case.arch.startswith("gemma") else 1.0)
    if name.endswith("bias"):
        return x * (3.0 if "experts" in name else 0.4)      # 3: the clamp at 7 is reached
    if name.endswith("sinks"):
        return x
    if "embed_tokens" in name:
        return 0.3 * x
    fan_in = shape[1] if case.arch == "gpt-oss" and "experts" in name else shape[-1]
    gain = 1.5 if re.search(r"[qk]_proj|qkv_proj|gate\.weight|router|lm_head", name) else 1.0
    return x * gain / math.sqrt(fan_in)


def build(case):
    config = case.config(**BASE | case.options)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(random_weight(case, name, tuple(p.shape))))
    return model


# ---------------------------------------------------------------------------------------------
# Tensors: views of the model's memory in the order and orientation that GGUF wants


def rope_pairs(x, heads):
    """Rows of each head from halves (HF) to neighbouring pairs (llama's NORM rope)."""
    return x.reshape(heads, 2, len(x) // heads // 2, *x.shape[1:]).swapaxes(1, 2)


def split_experts(case, name, x):
    stem, _, last = name.rpartition(".")
    if case.arch == "gpt-oss":              # [experts, in, out], gate and up interleaved
        if last.endswith("_bias"):
            parts, last, suffix = x, last.removesuffix("_bias"), ".bias"
        else:
            parts, suffix = x.swapaxes(1, 2), ".weight"
        gate, up = parts[:, 0::2], parts[:, 1::2]
    else:                                   # [experts, out, in], gate above up
        parts, suffix = x, ".weight"
        gate, up = parts[:, :x.shape[1] // 2], parts[:, x.shape[1] // 2:]
    if last == "down_proj":
        return [(f"{stem}.down_proj{suffix}", parts, parts.shape)]
    return [(f"{stem}.gate_proj{suffix}", gate, gate.shape),
            (f"{stem}.up_proj{suffix}", up, up.shape)]


def views(case, config, name, x):
    """[(HF name as the tables know it, view, GGUF shape)] of one parameter."""
    if ".experts." in name:
        return split_experts(case, name, x)
    if name.endswith("sinks"):
        name += ".weight"
    view = x
    if case.arch == "llama" and ".q_proj." in name:
        view = rope_pairs(x, config.num_attention_heads)
    if case.arch == "llama" and ".k_proj." in name:
        view = rope_pairs(x, config.num_key_value_heads)
    return [(name, view, x.shape)]


def add_tensors(w, case, model):
    """Write every parameter; a quantised one is replaced in the model by what its blocks say."""
    names = gguf.get_tensor_name_map(gguf_arch(case), model.config.num_hidden_layers)
    for hf_name, p in model.named_parameters():
        if hf_name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        for name, view, shape in views(case, model.config, hf_name, p.data.numpy()):
            full = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert full, name
            stem, _, suffix = full.rpartition(".")
            kind = case.types.get(stem, "F32") if suffix == "weight" else "F32"
            shift = 1.0 if case.arch.startswith("gemma") and stem.endswith("norm") else 0.0
            packed = quantize(view.reshape(shape) + np.float32(shift), kind)
            if kind != "F32":
                decoded = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
                view[...] = decoded.reshape(view.shape)
            assert packed.shape[1] == row_bytes(kind, shape[-1])
            w.add_lazy(full, shape, kind, lambda packed=packed: [packed])


# ---------------------------------------------------------------------------------------------
# Keys, as the converter of each architecture writes them


def gguf_arch(case):
    return {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[case.arch]


def rope_keys(case, c):
    """Keys and factor tensors of the rope scaling; Gemma 3 scales its global layers alone."""
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    keys = {} if case.arch == "gemma2" else {"rope.freq_base": rope["rope_theta"]}
    tensors = {}
    head = case.options.get("head_dim", c.hidden_size // c.num_attention_heads)
    if rope["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        for key in ("beta_fast", "beta_slow"):
            if case.arch == "gpt-oss":
                keys[f"rope.scaling.yarn_{key}"] = rope[key]
    if rope["rope_type"] == "llama3":
        wave = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, head, 2) / head)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] / wave
        blend = np.clip((turns - low) / (high - low), 0, 1)
        tensors["rope_freqs"] = 1 / ((1 - blend) / rope["factor"] + blend)
    if case.arch == "phi3":
        original = rope.get("original_max_position_embeddings", c.max_position_embeddings)
        keys["rope.scaling.original_context_length"] = original
        keys["rope.dimension_count"] = int(head * rope.get("partial_rotary_factor", 1.0))
        if rope["rope_type"] == "longrope":
            scale = c.max_position_embeddings / original
            factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
            keys["rope.scaling.attn_factor"] = factor
            tensors["rope_factors_long"] = np.array(rope["long_factor"])
            tensors["rope_factors_short"] = np.array(rope["short_factor"])
    if case.arch == "llama":
        keys["rope.dimension_count"] = head
    return keys, tensors


def arch_keys(case, c):
    keys = {
        "block_count": c.num_hidden_layers, "context_length": c.max_position_embeddings,
        "embedding_length": c.hidden_size, "feed_forward_length": c.intermediate_size,
        "attention.head_count": c.num_attention_heads,
        "attention.head_count_kv": c.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": c.rms_norm_eps,
    }
    if case.arch == "llama":
        keys["vocab_size"] = c.vocab_size
    if "head_dim" in case.options:
        keys |= {"attention.key_length": c.head_dim, "attention.value_length": c.head_dim}
    if "num_experts_per_tok" in case.options:
        keys |= {"expert_count": c.num_experts if case.arch == "qwen3moe" else c.num_local_experts,
                 "expert_used_count": c.num_experts_per_tok}
    if case.arch in ("qwen3moe", "gpt-oss"):
        keys["expert_feed_forward_length"] = getattr(c, "moe_intermediate_size",
                                                     c.intermediate_size)
    if case.arch in ("gemma2", "gemma3", "gpt-oss", "phi3"):
        keys["attention.sliding_window"] = c.sliding_window or 0
    if case.arch == "gemma2":
        keys |= {"attn_logit_softcapping": c.attn_logit_softcapping,
                 "final_logit_softcapping": c.final_logit_softcapping}
    return keys


def add_vocab(w, pre):
    tokens, merges = plain_tokens(N_PLAIN, np.random.default_rng(1))
    n_special = N_VOCAB - N_PLAIN
    tokens += ["<|begin|>", "<|end|>", "<|pad|>"] + [f"<|extra_{i}|>" for i in range(n_special - 3)]
    w.add("tokenizer.ggml.model", "gpt2")
    w.add("tokenizer.ggml.pre", pre)
    w.add("tokenizer.ggml.tokens", tokens, "str")
    w.add("tokenizer.ggml.token_type", [1] * N_PLAIN + [3] * n_special, "i32")
    w.add("tokenizer.ggml.merges", merges, "str")
    w.add("tokenizer.ggml.bos_token_id", N_PLAIN)
    w.add("tokenizer.ggml.eos_token_id", N_PLAIN + 1)
    w.add("tokenizer.ggml.padding_token_id", N_PLAIN + 2)


def export(case, name, model, path):
    w = GGUFWriter(path)
    w.add("general.architecture", case.arch)
    w.add("general.type", "model")
    w.add("general.name", f"golden {name}")
    w.add("general.file_type", 0)
    w.add("general.quantization_version", 2)
    rope, factors = rope_keys(case, model.config)
    for key, value in (arch_keys(case, model.config) | rope | case.keys).items():
        w.add(f"{case.arch}.{key}", value)
    add_vocab(w, case.pre)
    for tensor, values in factors.items():
        w.add_tensor(f"{tensor}.weight", values)
    add_tensors(w, case, model)
    w.write()


# ---------------------------------------------------------------------------------------------
# Logits


def prompt():
    ids = np.random.default_rng(32).integers(0, N_PLAIN, N_TOKENS)
    ids[0] = BASE["bos_token_id"]
    return ids


def run(model, ids):
    with torch.no_grad():
        return model(torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()


def write_logits(path, ids, logits):
    head = struct.pack("<8sIII", b"BUDLOGIT", len(ids), logits.shape[1], len(ROWS))
    body = ids.astype("<i4").tobytes() + np.array(ROWS, "<i4").tobytes()
    path.write_bytes(head + body + logits[ROWS].astype("<f4").tobytes())


def make(name):
    case, ids = CASES[name], prompt()
    model = build(case)
    path = OUT / f"{name}.gguf"
    export(case, name, model, path)
    logits = run(model, ids)
    write_logits(OUT / f"{name}.logits", ids, logits)
    noise = np.abs(run(model.double(), ids) - logits).max()
    print(f"{name:12} {path.stat().st_size:7} bytes  logits {logits.std():.2f} +- spread, "
          f"largest {np.abs(logits).max():.1f}, float64 differs by {noise:.1e}")


def main():
    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        make(name)


if __name__ == "__main__":
    main()
