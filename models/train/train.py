"""Trains the story model on the CPU. Resumes from its last checkpoint; same seed, same model.

    train.py --steps 3000 [--run DIR] [--minutes 70]

The learning rate rises, stays, and falls in a straight line over the last part of the steps. Matrices
are trained with Muon, embeddings and norms with AdamW. Only the model's own turns are learned.
Conversations of like length share a batch, padded at the end, each starting at position 0 as it will
when it is used: none sees another.
"""

import os

# Threads that wait must sleep, not spin: spinning halves the speed on a machine with other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse  # noqa: E402
import csv
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import corpus
import tokenizer
from model import Decoder, Shape
from muon import Muon

HERE = Path(__file__).parent
WARMUP, DECAY = 60, 0.5        # steps; share of the steps
RARE, REPEAT, FOCUS = 0.003, 3.0, 0.35   # copying weighs more in the first FOCUS of the steps
POOL = 512                    # batches are made of conversations sorted by length within such a pool


def encode(seed, count, context):
    """[(ids, targets)] of the training conversations; a target of -1 is not learned."""
    tok = tokenizer.load()
    out = []
    for conv in corpus.conversations(seed, count):
        ids, mine = tokenizer.render(tok, conv)
        if len(ids) <= context:
            targets = [t if m else -1 for t, m in zip(ids[1:], mine[1:])]
            out.append((np.array(ids[:-1], np.int32), np.array(targets, np.int32)))
    return out


def rare_tokens(docs, vocab):
    """Which tokens make up less than RARE of what is learned: names, nouns."""
    count = np.zeros(vocab, np.int64)
    for _, targets in docs:
        np.add.at(count, targets[targets >= 0], 1)
    return count < RARE * count.sum()


def copy_weights(ids, targets, rare):
    """REPEAT for a rare target that the conversation has already said, 1 for all others."""
    first = {}
    for at, token in enumerate(ids.tolist()):
        first.setdefault(token, at)
    said = np.array([first.get(t, len(ids)) <= at for at, t in enumerate(targets.tolist())])
    return np.where(said & rare[targets], REPEAT, 1.0).astype(np.float32)


def batches(docs, tokens, seed):
    """Lists of conversations, at most `tokens` each when padded; the same every time."""
    rng = random.Random(seed)
    out = []
    for start in range(0, len(docs), POOL):
        pool = sorted(docs[start:start + POOL], key=lambda d: len(d[0]))
        made, batch = [], []
        for doc in pool:
            if batch and len(doc[0]) * (len(batch) + 1) > tokens:
                made.append(batch)
                batch = []
            batch.append(doc)
        made.append(batch)
        rng.shuffle(made)
        out += made
    return out


def tensors(batch, rare):
    width = max(len(ids) for ids, _ in batch)
    ids = np.zeros((len(batch), width), np.int64)
    targets = np.full((len(batch), width), -1, np.int64)
    weights = np.ones((len(batch), width), np.float32)
    for row, (i, t) in enumerate(batch):
        ids[row, :len(i)], targets[row, :len(t)] = i, t
        weights[row, :len(i)] = copy_weights(i, t, rare)
    return torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(weights)


def optimizers(net, lr):
    """[(optimizer, its highest learning rate)]"""
    matrices = [p for n, p in net.named_parameters() if p.dim() == 2 and n.startswith("blk")]
    norms = [p for p in net.parameters() if p.dim() == 1]
    adam = {"betas": (0.9, 0.98), "weight_decay": 0.0}
    return [(Muon(matrices, lr=lr, weight_decay=0.02), lr),
            (torch.optim.AdamW([net.token_embd.weight], **adam), lr * 0.5),
            (torch.optim.AdamW([net.output.weight], **adam), lr * 0.1),
            (torch.optim.AdamW(norms, **adam), lr * 0.3)]


def scale(step, steps):
    return min(1.0, (step + 1) / WARMUP, max(0.02, (steps - step) / (DECAY * steps)))


@torch.no_grad()
def held_loss(net, docs, rare):
    """Loss on conversations made with another seed: all that is learned, and the repeated rare words alone."""
    total, repeated = [], []
    for batch in batches(docs, 4096, 0):
        ids, targets, weights = tensors(batch, rare)
        each = F.cross_entropy(net(ids).transpose(1, 2), targets.clamp(min=0), reduction="none")
        total.append(each[targets >= 0])
        repeated.append(each[(targets >= 0) & (weights > 1)])
    return float(torch.cat(total).mean()), float(torch.cat(repeated).mean())


def save(run, net, opts, step, seconds, note):
    state = {"model": net.state_dict(), "opts": [o.state_dict() for o, _ in opts], "step": step,
             "seconds": seconds, "shape": net.shape.dict(), "note": note}
    tmp = run / "last.tmp"
    torch.save(state, tmp)
    tmp.rename(run / "last.pt")


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--run", type=Path, default=HERE / "run")
    ap.add_argument("--steps", type=int, default=3000)
    ap.add_argument("--batch", type=int, default=2048, help="tokens in a step, padding included")
    ap.add_argument("--count", type=int, default=60000, help="conversations to write")
    ap.add_argument("--layers", type=int, default=Shape.layers)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--lr", type=float, default=0.02)
    ap.add_argument("--minutes", type=float, default=1e9, help="stop after this long, to resume later")
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.run.mkdir(exist_ok=True)
    net = Decoder(Shape(layers=args.layers))
    opts = optimizers(net, args.lr)
    step, spent = 0, 0.0
    if (args.run / "last.pt").exists():
        state = torch.load(args.run / "last.pt")
        net.load_state_dict(state["model"])
        for (opt, _), s in zip(opts, state["opts"]):
            opt.load_state_dict(s)
        step, spent = state["step"], state["seconds"]
    note = {"seed": args.seed, "batch": args.batch, "steps": args.steps, "lr": args.lr}
    docs = encode(args.seed, args.count, net.shape.context)
    rare = rare_tokens(docs, net.shape.vocab)
    plan = batches(docs, args.batch, args.seed)
    held = encode(args.seed + 10**6, 60, net.shape.context)
    print(f"{sum(p.numel() for p in net.parameters())} parameters, {len(plan)} batches", flush=True)

    begun, mark, seen, total = time.time(), time.time(), 0, 0.0
    while step < args.steps:
        for opt, lr in opts:
            for group in opt.param_groups:
                group["lr"] = lr * scale(step, args.steps)
        ids, targets, weights = tensors(plan[step % len(plan)], rare)
        if step > FOCUS * args.steps:
            weights.fill_(1.0)
        loss, plain = net.loss(ids, targets, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for opt, _ in opts:
            opt.step()
            opt.zero_grad()
        step += 1
        seen += ids.numel()
        total += float(plain)
        if step % 25 == 0:
            now = time.time()
            print(f"step {step} loss {total / 25:.4f} {seen / (now - mark):.0f} tokens/s", flush=True)
            mark, seen, total = now, 0, 0.0
        stop = step == args.steps or time.time() - begun > args.minutes * 60
        if step % 50 == 0 or stop:
            seconds = spent + time.time() - begun
            value, repeated = held_loss(net, held, rare)
            with open(args.run / "loss.csv", "a", newline="") as f:
                csv.writer(f).writerow([step, f"{value:.4f}", f"{repeated:.4f}", f"{seconds:.0f}"])
            print(f"step {step} held-out loss {value:.4f} repeated {repeated:.4f}", flush=True)
            save(args.run, net, opts, step, seconds, note)
            mark = time.time()
        if stop:
            break


if __name__ == "__main__":
    main()
