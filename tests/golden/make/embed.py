"""Make the goldens of embedders and rerankers: NAME.gguf and NAME.vectors in tests/golden/models.

Each case is a tiny model of Hugging Face transformers with fixed random weights, run in float32
with eager attention, one text at a time; pooling and unit length are done here, as
sentence-transformers does them. The GGUF file beside it is that same model as llama.cpp's converter
would write it (tools/bert_gguf.py; the qwen3 ones as models.py writes its own).

    python tests/golden/make/embed.py [NAME...]      needs torch, transformers, sentencepiece, gguf, numpy
"""

import math
import pathlib
import struct
import sys
import zlib

import numpy as np
import torch
import transformers as hf

import models as decoders
import unigram
from gguf_write import GGUFWriter
from bert_gguf import FIRST, LAST, MEAN, RANK, read_sentencepiece, write_bert

OUT = pathlib.Path(__file__).resolve().parents[1] / "models"
N_VOCAB = 96
SIZES = dict(vocab_size=N_VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=64, max_position_embeddings=48, pad_token_id=0)
# (tokens of a text, of them in the second of a pair): one token, a few, a full context.
TEXTS = [(1, 0), (2, 0), (7, 3), (12, 0), (33, 20), (48, 1)]


def random_weight(name, shape):
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("bias"):
        return 0.4 * x
    if "norm" in name.lower() and len(shape) == 1:
        return 1 + 0.2 * x
    if "embeddings" in name or "embed_tokens" in name:
        return 0.5 * x
    gain = 5.0 if "classifier" in name else \
        2.0 if any(part in name for part in ("query", "key", "q_proj", "k_proj")) else 1.0
    return x * gain / math.sqrt(shape[-1])


def fill(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(random_weight(name, tuple(p.shape))))
    return model.eval()


def texts(n_special, n_types=2):
    rng = np.random.default_rng(48)
    rows = []
    for n, n_second in TEXTS:
        n_second = n_second if n_types > 1 else 0
        ids = rng.integers(n_special, N_VOCAB, n)
        rows.append((ids, np.array([0] * (n - n_second) + [1] * n_second)))
    return rows


def unit(v):
    return v / np.linalg.norm(v)


def pool(hidden, pooling):
    return unit(hidden.mean(0) if pooling == MEAN else hidden[0 if pooling == FIRST else -1])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tokens():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789.,!?-'")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + [f"##{c}" for c in letters[:36]]
    return words + [f"word{i}" for i in range(N_VOCAB - len(words))]


# ---------------------------------------------------------------------------------------------
# Cases: each makes its file and returns the answers of transformers, one row for each text


def encoder(name, arch, config, pooling, vocab=None):
    ranks = pooling == RANK
    config._attn_implementation = "eager"
    kind = hf.AutoModelForSequenceClassification if ranks else hf.AutoModel
    model = fill(kind.from_config(config, dtype=torch.float32))
    weights = {k: p.data.numpy() for k, p in model.named_parameters()}
    write_bert(OUT / f"{name}.gguf", arch=arch, name=f"golden {name}", config=config.to_dict(), weights=weights,
               tokens=vocab or tokens(), pooling=pooling)
    answers = []
    for ids, types in texts(5, config.to_dict().get("type_vocab_size", 2)):
        with torch.no_grad():
            out = model(torch.from_numpy(ids)[None], token_type_ids=torch.from_numpy(types)[None])
        answers.append(sigmoid(out.logits[0].double().numpy()) if ranks
                       else pool(out.last_hidden_state[0].double().numpy(), pooling))
    return answers


def bert(name, pooling, **more):
    return encoder(name, "bert", hf.BertConfig(**SIZES | more), pooling)


def xlm_roberta(name, pooling, **more):
    """One token type; positions count from the one behind the padding token's."""
    vocab = unigram.train()
    pieces, _ = read_sentencepiece(vocab)
    sizes = SIZES | dict(vocab_size=len(pieces) + 2, max_position_embeddings=50, pad_token_id=1, bos_token_id=0,
                         eos_token_id=2, type_vocab_size=1, layer_norm_eps=1e-5)
    return encoder(name, "bert", hf.XLMRobertaConfig(**sizes | more), pooling, vocab)


def nomic(name, pooling):
    rope = dict(rope_type="default", rope_theta=1000.0)
    return encoder(name, "nomic-bert", hf.NomicBertConfig(**SIZES, rope_parameters=rope), pooling)


def qwen3(name, pooling):
    """A reranker's answer is the share of "yes" among two rows of the output matrix."""
    case = decoders.Case("qwen3", hf.Qwen3Config, decoders.size(32, 2, 4, 2, 48, head_dim=16,
                                                                tie_word_embeddings=True), pre="qwen2")
    model = decoders.build(case)
    config = model.config
    w = GGUFWriter(OUT / f"{name}.gguf")
    w.add("general.architecture", "qwen3")
    w.add("general.name", f"golden {name}")
    rope, _ = decoders.rope_keys(case, config)
    for key, value in (decoders.arch_keys(case, config) | rope | {"pooling_type": pooling}).items():
        w.add(f"qwen3.{key}", value)
    decoders.add_vocab(w, "qwen2")
    decoders.add_tensors(w, case, model)
    yes_no = model.lm_head.weight.data.numpy()[[17, 40]] * 0.7
    if pooling == RANK:
        w.add("qwen3.classifier.output_labels", ["yes", "no"], "str")
        w.add("tokenizer.chat_template.rerank", "Query: {query}\nDocument: {document}<|end|>\n")
        w.add_tensor("cls.output.weight", yes_no)
    w.write()
    answers = []
    for ids, _ in texts(5):
        with torch.no_grad():
            hidden = model.model(torch.from_numpy(ids)[None]).last_hidden_state[0].double().numpy()
        logits = yes_no.astype(np.float64) @ hidden[-1]
        answers.append(sigmoid(logits[:1] - logits[1:]) if pooling == RANK else pool(hidden, pooling))
    return answers


CASES = {
    "bert": lambda name: bert(name, MEAN),
    "bert-first": lambda name: bert(name, FIRST, num_attention_heads=2, layer_norm_eps=1e-5),
    "bert-rank": lambda name: bert(name, RANK, num_labels=1),
    "xlm-roberta": lambda name: xlm_roberta(name, MEAN),
    "xlm-roberta-rank": lambda name: xlm_roberta(name, RANK, num_labels=1),
    "nomic-bert": lambda name: nomic(name, MEAN),
    "qwen3-embed": lambda name: qwen3(name, LAST),
    "qwen3-rank": lambda name: qwen3(name, RANK),
}


def write_vectors(path, answers):
    rows = texts(5, 1 if path.name.startswith("xlm") else 2)
    body = struct.pack("<8sII", b"BUDEMBED", len(rows), len(answers[0]))
    body += np.array([len(ids) for ids, _ in rows], "<u4").tobytes()
    body += b"".join(ids.astype("<i4").tobytes() for ids, _ in rows)
    body += b"".join(types.astype("<i4").tobytes() for _, types in rows)
    path.write_bytes(body + b"".join(a.astype("<f4").tobytes() for a in answers))


def main():
    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        answers = CASES[name](name)
        write_vectors(OUT / f"{name}.vectors", answers)
        size = (OUT / f"{name}.gguf").stat().st_size
        print(f"{name:12} {size:7} bytes  {[round(float(a[0]), 4) for a in answers]}")


if __name__ == "__main__":
    main()
