"""Compute the architecture goldens again from the GGUF files alone, and compare.

An independent reading of the files with numpy and `gguf` (reader and dequantisers), written from
the formulas of each architecture and not from transformers: when it agrees, the exported keys,
names, permutations and factors say what the C engine will take them to say.

    python tests/golden/make/check.py [NAME...]      exit status 1 if a logit differs by > 1e-3
"""

import pathlib
import struct
import sys

import gguf
import numpy as np

MODELS = pathlib.Path(__file__).resolve().parents[1] / "models"
MODEL_MAX = 1e-3


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.tensors = {
            t.name: gguf.quants.dequantize(np.array(t.data), t.tensor_type).astype(np.float64)
            .reshape(tuple(int(n) for n in reversed(t.shape))) for t in reader.tensors}
        self.arch = self.fields["general.architecture"].contents()

    def key(self, name, default=None):
        f = self.fields.get(f"{self.arch}.{name}")
        return default if f is None else f.contents()

    def get(self, name):
        return self.tensors.get(name)


def linear(m, name, x):
    y = x @ m.get(f"{name}.weight").T
    bias = m.get(f"{name}.bias")
    return y if bias is None else y + bias


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def norm(m, name, x):
    w = m.get(f"{name}.weight")
    if w is None:
        return x
    eps = m.key("attention.layer_norm_rms_epsilon")
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w


# ---------------------------------------------------------------------------------------------
# Positions


def yarn(m, freq, n_rot, base):
    """Frequencies blended from true (fast dimensions) to interpolated (slow), and the gain."""
    factor, ctx = m.key("rope.scaling.factor"), m.key("rope.scaling.original_context_length")

    def dim(turns):
        return n_rot * np.log(ctx / (turns * 2 * np.pi)) / (2 * np.log(base))
    low = dim(m.key("rope.scaling.yarn_beta_fast", 32.0))
    high = dim(m.key("rope.scaling.yarn_beta_slow", 1.0))
    if m.arch != "gpt-oss":
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, n_rot - 1)
    ramp = np.clip((np.arange(n_rot // 2) - low) / max(0.001, high - low), 0, 1)
    return freq * (1 - ramp) + freq / factor * ramp, 0.1 * np.log(factor) + 1


def rope_table(m, layer, n_tokens, head):
    n_rot = m.key("rope.dimension_count", head)
    base = m.key("rope.freq_base", 10000.0)
    local = m.arch == "gemma3" and window_of(m, layer)
    if local:
        base = m.key("rope.freq_base_swa", 10000.0)
    freq, gain = base ** (-np.arange(0, n_rot, 2) / n_rot), 1.0
    scaling = m.key("rope.scaling.type")
    if scaling == "linear" and not local:
        freq = freq / m.key("rope.scaling.factor")
    if scaling == "yarn":
        freq, gain = yarn(m, freq, n_rot, base)
    if m.get("rope_freqs.weight") is not None:
        freq = freq / m.get("rope_freqs.weight")
    if m.get("rope_factors_long.weight") is not None:
        long = m.key("context_length") > m.key("rope.scaling.original_context_length")
        freq = freq / m.get(f"rope_factors_{'long' if long else 'short'}.weight")
        gain = m.key("rope.scaling.attn_factor", 1.0)
    angle = np.arange(n_tokens)[:, None, None] * freq
    return np.cos(angle) * gain, np.sin(angle) * gain


def rope(m, x, table):
    """x [T, H, D]; pairs are neighbours for llama and halves of the rotated part elsewhere."""
    cos, sin = table
    n_rot = 2 * cos.shape[-1]
    out = x.copy()
    if m.arch == "llama":
        first, second = slice(0, n_rot, 2), slice(1, n_rot, 2)
    else:
        first, second = slice(0, n_rot // 2), slice(n_rot // 2, n_rot)
    a, b = x[..., first], x[..., second]
    out[..., first], out[..., second] = a * cos - b * sin, b * cos + a * sin
    return out


def window_of(m, layer):
    """Tokens a layer sees, itself included; 0 = all."""
    window = m.key("attention.sliding_window", 0)
    if m.arch not in ("gemma2", "gemma3", "gpt-oss"):
        return window
    period = m.key("attention.sliding_window_pattern", 6 if m.arch == "gemma3" else 2)
    return window if layer % period < period - 1 else 0


# ---------------------------------------------------------------------------------------------
# Blocks


def attention(m, layer, x):
    b, n_tokens = f"blk.{layer}", len(x)
    heads, kv = m.key("attention.head_count"), m.key("attention.head_count_kv")
    head = m.key("attention.key_length", m.key("embedding_length") // heads)
    if m.get(f"{b}.attn_qkv.weight") is not None:
        q, k, v = np.split(linear(m, f"{b}.attn_qkv", x), [heads * head, (heads + kv) * head], 1)
    else:
        q, k, v = (linear(m, f"{b}.attn_{part}", x) for part in "qkv")
    q, k, v = (y.reshape(n_tokens, -1, head) for y in (q, k, v))
    table = rope_table(m, layer, n_tokens, head)
    q = rope(m, norm(m, f"{b}.attn_q_norm", q), table)
    k = rope(m, norm(m, f"{b}.attn_k_norm", k), table)
    k, v = (np.repeat(y, heads // kv, axis=1) for y in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(head)
    cap = m.key("attn_logit_softcapping")
    if cap:
        scores = cap * np.tanh(scores / cap)
    age = np.arange(n_tokens)[:, None] - np.arange(n_tokens)
    window = window_of(m, layer)
    scores[:, (age < 0) | (age >= (window or n_tokens))] = -np.inf
    sinks = m.get(f"{b}.attn_sinks.weight")
    if sinks is not None:
        column = np.broadcast_to(sinks[:, None, None], (heads, n_tokens, 1))
        p = softmax(np.concatenate([scores, column], axis=-1))[..., :-1]
    else:
        p = softmax(scores)
    return linear(m, f"{b}.attn_output", np.einsum("hqk,khd->qhd", p, v).reshape(n_tokens, -1))


def experts(m, b, x):
    logits = linear(m, f"{b}.ffn_gate_inp", x)
    top = np.argsort(-logits, axis=-1)[:, :m.key("expert_used_count")]
    # Softmax over all, renormalised over the chosen = softmax over the chosen.
    weight = softmax(np.take_along_axis(logits, top, axis=-1))
    w = {p: m.get(f"{b}.ffn_{p}_exps.weight") for p in ("gate", "up", "down")}
    bias = {p: m.get(f"{b}.ffn_{p}_exps.bias") for p in w}
    out = np.zeros_like(x)
    for t, chosen in enumerate(top):
        for e, share in zip(chosen, weight[t]):
            gate, up = w["gate"][e] @ x[t], w["up"][e] @ x[t]
            if m.arch == "gpt-oss":
                gate = np.minimum(gate + bias["gate"][e], 7)
                up = np.clip(up + bias["up"][e], -7, 7)
                hidden = gate / (1 + np.exp(-1.702 * gate)) * (up + 1)
                out[t] += share * (w["down"][e] @ hidden + bias["down"][e])
            else:
                out[t] += share * (w["down"][e] @ (silu(gate) * up))
    return out


def feed_forward(m, layer, x):
    b = f"blk.{layer}"
    if m.get(f"{b}.ffn_gate_inp.weight") is not None:
        return experts(m, b, x)
    up = linear(m, f"{b}.ffn_up", x)
    if m.get(f"{b}.ffn_gate.weight") is None:
        gate, up = np.split(up, 2, axis=1)
    else:
        gate = linear(m, f"{b}.ffn_gate", x)
    act = gelu if m.arch.startswith("gemma") else silu
    return linear(m, f"{b}.ffn_down", act(gate) * up)


def forward(m, ids):
    x = m.get("token_embd.weight")[ids]
    gemma = m.arch.startswith("gemma")
    if gemma:
        x = x * np.sqrt(m.key("embedding_length"))
    for layer in range(m.key("block_count")):
        b = f"blk.{layer}"
        y = attention(m, layer, norm(m, f"{b}.attn_norm", x))
        x = x + (norm(m, f"{b}.post_attention_norm", y) if gemma else y)
        # gpt-oss names its second norm after the attention that it follows.
        before = "ffn_norm" if m.arch != "gpt-oss" else "post_attention_norm"
        x = x + norm(m, f"{b}.post_ffw_norm", feed_forward(m, layer, norm(m, f"{b}.{before}", x)))
    head = m.get("output.weight")
    logits = norm(m, "output_norm", x) @ (m.get("token_embd.weight") if head is None else head).T
    cap = m.key("final_logit_softcapping")
    return cap * np.tanh(logits / cap) if cap else logits


def read_logits(path):
    data = path.read_bytes()
    magic, n_tokens, n_vocab, n_rows = struct.unpack_from("<8sIII", data)
    assert magic == b"BUDLOGIT", path
    ids = np.frombuffer(data, "<i4", n_tokens, 20)
    rows = np.frombuffer(data, "<i4", n_rows, 20 + 4 * n_tokens)
    logits = np.frombuffer(data, "<f4", n_rows * n_vocab, 20 + 4 * (n_tokens + n_rows))
    return ids, rows, logits.reshape(n_rows, n_vocab)


def main():
    names = sys.argv[1:] or sorted(p.stem for p in MODELS.glob("*.gguf"))
    worst = 0.0
    for name in names:
        ids, rows, want = read_logits(MODELS / f"{name}.logits")
        got = forward(Model(MODELS / f"{name}.gguf"), ids)[rows]
        diff = np.abs(got - want).max()
        worst = max(worst, diff)
        print(f"{name:12} max difference {diff:.1e}  {'ok' if diff <= MODEL_MAX else 'DIFFERS'}")
    sys.exit(worst > MODEL_MAX)


if __name__ == "__main__":
    main()
