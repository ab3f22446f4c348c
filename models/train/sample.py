"""Loads the GGUF as a stranger would, and talks to it; --check runs the held-out prompts.

    sample.py "Write a story about a cat who finds a key." [--temp 0.7] [--seed 1]
    sample.py --check [--temp 0.7]        exit status 1 if an answer lacks a word or does not end

Reading is done by the `gguf` package and the vocabulary is rebuilt from the file's own keys, so that
this also checks what export.py and tools/gguf_write.py wrote. Needs: torch gguf tokenizers jinja2.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import gguf
import jinja2
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional as F

from model import Decoder, Shape, rotate, rotation

HERE = Path(__file__).parent
ANSWER_TOKENS_MAX = 400


class StoryModel:
    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        assert self.get("general.architecture") == "llama"
        vocab = self.get("tokenizer.ggml.tokens")
        self.net = Decoder(Shape(
            vocab=len(vocab), channels=self.get("llama.embedding_length"),
            layers=self.get("llama.block_count"), heads=self.get("llama.attention.head_count"),
            feed_forward=self.get("llama.feed_forward_length"), context=self.get("llama.context_length"),
            rope_base=self.get("llama.rope.freq_base"),
            norm_eps=self.get("llama.attention.layer_norm_rms_epsilon")))
        self.net.load_state_dict({t.name: torch.from_numpy(np.array(
            gguf.quants.dequantize(t.data, t.tensor_type), np.float32).reshape(tuple(reversed(t.shape.tolist()))))
            for t in self.reader.tensors})
        self.eos = self.get("tokenizer.ggml.eos_token_id")
        self.template = jinja2.Environment().from_string(self.get("tokenizer.chat_template"))
        self.tok = self.tokenizer(vocab)

    def get(self, key):
        return self.reader.fields[key].contents()

    def tokenizer(self, vocab):
        merges = [tuple(m.split(" ")) for m in self.get("tokenizer.ggml.merges")]
        tok = Tokenizer(models.BPE({t: i for i, t in enumerate(vocab)}, merges))
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        types = self.get("tokenizer.ggml.token_type")
        tok.add_special_tokens([AddedToken(t, special=True) for t, k in zip(vocab, types) if k == 3])
        return tok

    def next_logits(self, ids, cache):
        """Logits [V] after `ids`, which follow what the cache holds: one (keys, values) a layer."""
        past = cache[0][0].shape[2] if cache else 0
        cos, sin = (a[past:] for a in rotation(self.net.shape, past + len(ids)))
        x = self.net.token_embd(torch.tensor([ids]))
        for i, blk in enumerate(self.net.blk):
            h = blk.attn_norm(x)
            q, k, v = (lin(h).view(1, len(ids), blk.heads, -1).transpose(1, 2)
                       for lin in (blk.attn_q, blk.attn_k, blk.attn_v))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            if past:
                k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
                cache[i] = (k, v)
            else:
                cache.append((k, v))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=past == 0)
            x = x + blk.attn_output(a.transpose(1, 2).reshape(1, len(ids), -1))
            h = blk.ffn_norm(x)
            x = x + blk.ffn_down(F.silu(blk.ffn_gate(h)) * blk.ffn_up(h))
        return self.net.output(self.net.output_norm(x[0, -1]))

    @torch.no_grad()
    def answer(self, messages, temp=0.0, seed=1, raw=None):
        """(text, whether it ended by itself)"""
        rng = torch.Generator().manual_seed(seed)
        text = raw or self.template.render(messages=messages, add_generation_prompt=True)
        ids = self.tok.encode(text).ids
        start, cache, fed = len(ids), [], 0
        while len(ids) - start < ANSWER_TOKENS_MAX:
            logits = self.next_logits(ids[fed:], cache)
            fed = len(ids)
            token = int(logits.argmax()) if temp == 0 else int(
                torch.multinomial(torch.softmax(logits / temp, 0), 1, generator=rng))
            if token == self.eos:
                return self.tok.decode(ids[start:]), True
            ids.append(token)
        return self.tok.decode(ids[start:]), False


def missing(text, words):
    """The words that the text does not say, as whole words, in any case."""
    return [w for w in words if not re.search(rf"\b{re.escape(w)}\b", text, re.IGNORECASE)]


def check(story, temp, seed):
    rows = json.loads((HERE / "heldout.json").read_text())
    rows = [rows["issue"]] + rows["prompts"]
    bad = 0
    for row in rows:
        text, ended = story.answer([{"role": "user", "content": row["prompt"]}], temp, seed)
        lost = missing(text, row["must"])
        bad += bool(lost or not ended)
        print(f"## {row['prompt']}\n{'missing: ' + ', '.join(lost) if lost else 'all words'}"
              f"{'' if ended else ', no end'}; {len(text.split())} words\n\n{text}\n")
    print(f"{len(rows) - bad} of {len(rows)} answers hold all words and end")
    return bad


def main():
    torch.set_num_threads(1)
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("prompt", nargs="*")
    ap.add_argument("--model", default=str(HERE.parent / "bud-story-4m.gguf"))
    ap.add_argument("--temp", type=float, default=0.0)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--raw", action="store_true", help="plain continuation, without the chat template")
    args = ap.parse_args()
    story = StoryModel(args.model)
    if args.check:
        sys.exit(1 if check(story, args.temp, args.seed) else 0)
    messages = []
    for prompt in args.prompt:
        messages.append({"role": "user", "content": prompt})
        text, _ = story.answer(messages, args.temp, args.seed, prompt if args.raw else None)
        messages.append({"role": "assistant", "content": text})
        print(f"> {prompt}\n{text}\n")


if __name__ == "__main__":
    main()
