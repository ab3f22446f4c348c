#!/usr/bin/env python3
"""Turn a BERT-type embedder or reranker of Hugging Face into a GGUF file, with numpy alone.

    python3 tools/bert_gguf.py MODEL_DIR OUT.gguf [F32|F16|Q8_0] [NAME]

MODEL_DIR holds config.json, model.safetensors and vocab.txt, or sentencepiece.bpe.model
(XLM-RoBERTa: multilingual-e5, bge-m3), and for sentence-transformers models modules.json with
1_Pooling/config.json. Names and keys are those of llama.cpp's converter; vectors, positions and
token types stay F32. `write_bert` takes weights from memory instead (the goldens).
"""

import json
import pathlib
import re
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gguf_write import GGUFWriter  # noqa: E402

MEAN, FIRST, LAST, RANK = 1, 2, 3, 4

# Parameter names, `bert.` or the like before them taken off -> tensor names.
NAMES = [
    (r"embeddings\.word_embeddings", "token_embd"),
    (r"embeddings\.position_embeddings", "position_embd"),
    (r"embeddings\.token_type_embeddings", "token_types"),
    (r"embeddings\.LayerNorm", "token_embd_norm"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.query", r"blk.\1.attn_q"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.key", r"blk.\1.attn_k"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.value", r"blk.\1.attn_v"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense", r"blk.\1.attn_output"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm", r"blk.\1.attn_output_norm"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense", r"blk.\1.ffn_up"),
    (r"encoder\.layer\.(\d+)\.output\.dense", r"blk.\1.ffn_down"),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm", r"blk.\1.layer_output_norm"),
    (r"layers\.(\d+)\.self_attn\.qkv_proj", r"blk.\1.attn_qkv"),
    (r"layers\.(\d+)\.self_attn\.o_proj", r"blk.\1.attn_output"),
    (r"layers\.(\d+)\.post_attention_layernorm", r"blk.\1.attn_output_norm"),
    (r"layers\.(\d+)\.mlp\.(gate|up|down)_proj", r"blk.\1.ffn_\2"),
    (r"layers\.(\d+)\.post_mlp_layernorm", r"blk.\1.layer_output_norm"),
    (r"pooler\.dense", "cls"),
    (r"classifier\.dense", "cls"),
    (r"classifier(\.out_proj)?", "cls.output"),
]


def tensor_name(parameter):
    stem, _, suffix = parameter.rpartition(".")
    for pattern, name in NAMES:
        if re.fullmatch(r"(\w*berta?\.)?" + pattern, stem):
            return re.sub(r".*?" + pattern + "$", name, stem) + "." + suffix
    return None


def fuse_qkv(weights):
    """NomicBERT's q, k and v as the one matrix that its files have."""
    fused = {}
    for name, x in weights.items():
        if ".self_attn.q_proj." in name:
            parts = [weights[name.replace("q_proj", part + "_proj")] for part in "qkv"]
            fused[name.replace("q_proj", "qkv_proj")] = np.concatenate(parts)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            fused[name] = x
    return fused


def add_vocab(w, tokens, lowercase=True):
    """WordPiece: a word's first piece gets U+2581, a later one loses its ##."""
    special = [t.startswith("[") and t.endswith("]") and len(t) > 2 for t in tokens]
    w.add("tokenizer.ggml.model", "bert")
    w.add("tokenizer.ggml.pre", "default")
    w.add("tokenizer.ggml.token_type_count", 2)
    w.add("tokenizer.ggml.tokens",
          [t if s else t[2:] if t.startswith("##") else "\u2581" + t for t, s in zip(tokens, special)], "str")
    w.add("tokenizer.ggml.token_type", [3 if s else 1 for s in special], "i32")
    for key, token in (("unknown", "[UNK]"), ("seperator", "[SEP]"), ("padding", "[PAD]"), ("cls", "[CLS]"),
                       ("mask", "[MASK]")):
        if token in tokens:
            w.add(f"tokenizer.ggml.{key}_token_id", tokens.index(token))
    if not lowercase:
        w.add("tokenizer.ggml.normalizer.lowercase", False)


def fields(data):
    """(number, value) of a protocol buffer message: https://protobuf.dev/programming-guides/encoding."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        n = varint() if tag & 7 == 2 else {5: 4, 1: 8}[tag & 7]
        yield tag >> 3, data[at:at + n]
        at += n


def read_sentencepiece(data):
    """Pieces (text, score, type), the normaliser's table and flags of a ModelProto
    (github.com/google/sentencepiece, sentencepiece_model.proto)."""
    pieces, spec = [], {2: b"", 3: 1, 4: 1}
    for number, value in fields(data):
        if number == 1:
            row = {1: b"", 2: bytes(4), 3: 1} | dict(fields(value))
            pieces.append((row[1].decode(), float(np.frombuffer(row[2], "<f4")[0]), row[3]))
        elif number == 3:
            spec |= dict(fields(value))
    return pieces, {"charsmap": spec[2], "add_space_prefix": bool(spec[3]), "remove_extra_whitespaces": bool(spec[4])}


def add_unigram(w, model):
    """XLM-RoBERTa's vocabulary: a unigram model with four tokens of fairseq's before it and <mask> behind."""
    pieces, norm = read_sentencepiece(model)
    rows = [("<s>", 0.0, 3), ("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), *pieces[3:], ("<mask>", 0.0, 3)]
    w.add("tokenizer.ggml.model", "t5")
    w.add("tokenizer.ggml.pre", "default")
    w.add("tokenizer.ggml.token_type_count", 1)
    for key, column, kind in (("tokens", 0, "str"), ("scores", 1, "f32"), ("token_type", 2, "i32")):
        w.add(f"tokenizer.ggml.{key}", [row[column] for row in rows], kind)
    for key in ("add_space_prefix", "remove_extra_whitespaces"):
        w.add(f"tokenizer.ggml.{key}", norm[key])
    if norm["charsmap"]:
        w.add("tokenizer.ggml.precompiled_charsmap", list(norm["charsmap"]), "u8")
    for key, token in (("bos", 0), ("eos", 2), ("unknown", 3), ("seperator", 2), ("padding", 1), ("cls", 0),
                       ("mask", len(rows) - 1)):
        w.add(f"tokenizer.ggml.{key}_token_id", token)
    for key in ("bos", "eos", "sep"):
        w.add(f"tokenizer.ggml.add_{key}_token", True)


def first_position(config):
    """RoBERTa counts from the row behind the padding token's."""
    roberta = config.get("model_type") in ("xlm-roberta", "roberta")
    return 1 + config["pad_token_id"] if roberta else 0


def add_keys(w, arch, name, config, pooling):
    w.add("general.architecture", arch)
    w.add("general.type", "model")
    w.add("general.name", name)
    w.add("general.quantization_version", 2)
    rows = {
        "block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"] - first_position(config),
        "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.layer_norm_epsilon": float(config["layer_norm_eps"]),
        "attention.causal": False, "pooling_type": pooling,
    }
    if arch == "nomic-bert":
        rows["rope.freq_base"] = float(config["rope_parameters"]["rope_theta"])
    for key, value in rows.items():
        w.add(f"{arch}.{key}", value)


def write_bert(path, *, arch, name, config, weights, tokens, pooling, kind="F32", lowercase=True):
    """weights: parameter name -> float32 array. Parameters that no embedder needs are left out.
    tokens: those of vocab.txt, or the bytes of a SentencePiece model."""
    w = GGUFWriter(path)
    add_keys(w, arch, name, config, pooling)
    if isinstance(tokens, bytes):
        add_unigram(w, tokens)
    else:
        add_vocab(w, tokens, lowercase)
    if pooling == RANK:
        w.add(f"{arch}.classifier.output_labels", ["relevance"], "str")
    for parameter, x in fuse_qkv(weights).items():
        to = tensor_name(parameter)
        if to is None or (to.startswith("cls") and pooling != RANK):
            continue
        if to == "position_embd.weight":
            x = x[first_position(config):]
        plain = x.ndim < 2 or to.startswith(("position_embd", "token_types"))
        w.add_tensor(to, x.astype(np.float32), "F32" if plain else kind)
    w.write()


def read_safetensors(path):
    """Header length, JSON header, bytes: https://github.com/huggingface/safetensors#format."""
    data = np.memmap(path, np.uint8, "r")
    n = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:8 + n].tobytes())
    header.pop("__metadata__", None)
    kinds = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
    return {name: data[8 + n + row["data_offsets"][0]:8 + n + row["data_offsets"][1]]
            .view(kinds[row["dtype"]]).reshape(row["shape"]) for name, row in header.items()}


def read_pooling(folder):
    """What sentence-transformers does by the model's own files; the mean where they say nothing."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return MEAN
    config = json.loads(path.read_text())
    for mode, pooling in (("pooling_mode_cls_token", FIRST), ("pooling_mode_lasttoken", LAST)):
        if config.get(mode):
            return pooling
    return MEAN


def convert(folder, path, kind="F32", name=None):
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    ranks = any("SequenceClassification" in a for a in config.get("architectures", []))
    settings = folder / "tokenizer_config.json"
    lowercase = json.loads(settings.read_text()).get("do_lower_case", True) if settings.exists() else True
    unigram = folder / "sentencepiece.bpe.model"
    tokens = unigram.read_bytes() if unigram.exists() else \
        (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    write_bert(path, arch="bert", name=name or folder.resolve().name, config=config,
               weights=read_safetensors(folder / "model.safetensors"), tokens=tokens,
               pooling=RANK if ranks else read_pooling(folder), kind=kind, lowercase=lowercase)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 5):
        sys.exit(__doc__.strip())
    convert(*sys.argv[1:])
