"""The network: a llama decoder (RMSNorm, interleaved rotary pairs, SwiGLU).

Shapes: B batch, T tokens, C channels, H heads, D head size, V vocabulary. Weights are named as GGUF
names them, so that export.py writes them as they stand: rotation works on neighbouring pairs, the
layout of llama in GGUF, and no row needs to be permuted.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Shape:
    """Every width that enters a matrix product is a multiple of 256: all quantised types apply."""
    vocab: int = 2048
    channels: int = 256
    layers: int = 4
    heads: int = 8
    feed_forward: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    def dict(self):
        return asdict(self)


def rotation(shape, length):
    """cos and sin [T, D/2] of the rotary angles."""
    size = shape.channels // shape.heads
    freq = shape.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * freq[None, :]
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """x [B, H, T, D]: each pair (2i, 2i+1) turned by its angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        c, ff = shape.channels, shape.feed_forward
        self.heads = shape.heads
        self.attn_norm = nn.RMSNorm(c, eps=shape.norm_eps)
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
            nn.Linear(c, c, bias=False) for _ in range(4))
        self.ffn_norm = nn.RMSNorm(c, eps=shape.norm_eps)
        self.ffn_gate, self.ffn_up = (nn.Linear(c, ff, bias=False) for _ in range(2))
        self.ffn_down = nn.Linear(ff, c, bias=False)

    def forward(self, x, cos, sin):
        B, T, C = x.shape
        h = self.attn_norm(x)
        q, k, v = (lin(h).view(B, T, self.heads, -1).transpose(1, 2)
                   for lin in (self.attn_q, self.attn_k, self.attn_v))
        a = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.attn_output(a.transpose(1, 2).reshape(B, T, C))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Decoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.channels)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.channels, eps=shape.norm_eps)
        self.output = nn.Linear(shape.channels, shape.vocab, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self):
        """The network begins as a copier. Embeddings are large, so that a word stays recognisable in the
        residual stream; the output starts as their small copy; values and attention output are each
        other's transpose (what a head looks at, it says); queries equal keys (like looks at like).
        A story repeats its names and nouns all the time; from the usual small random start nothing was
        copied after two million tokens.
        """
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.03)
        nn.init.normal_(self.token_embd.weight, std=1.0)
        self.output.weight.copy_(0.02 * self.token_embd.weight)
        for block in self.blk:
            nn.init.orthogonal_(block.attn_v.weight)
            block.attn_output.weight.copy_(0.5 * block.attn_v.weight.T)
            block.attn_k.weight.copy_(block.attn_q.weight)
            block.ffn_down.weight.mul_((2 * self.shape.layers) ** -0.5)

    def hidden(self, ids):
        """ids [B, T] -> the normed hidden states [B, T, C]."""
        cos, sin = rotation(self.shape, ids.shape[1])
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def forward(self, ids):
        """Logits [B, T, V]."""
        return self.output(self.hidden(ids))

    def loss(self, ids, targets, weights):
        """Weighted and plain mean cross entropy where targets [B, T] are not -1; other rows get no logits."""
        want = targets.flatten() >= 0
        logits = self.output(self.hidden(ids).flatten(0, 1)[want])
        each = F.cross_entropy(logits, targets.flatten()[want], reduction="none")
        w = weights.flatten()[want]
        return (each * w).sum() / w.sum(), each.detach().mean()
