"""The vocabulary: byte-level BPE with GPT-2's splitting, trained on the corpus.

    tokenizer.py            writes tokenizer.json (Hugging Face `tokenizers` format)

Order of ids: the special tokens, the 256 bytes, the merges.
"""

from pathlib import Path

import corpus

HERE = Path(__file__).parent
FILE = HERE / "tokenizer.json"
SIZE = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BOS, IM_START, IM_END = range(3)
SEED, CONVERSATIONS = 7, 24000

TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
            " + '<|im_end|>' + '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def train():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    texts = (conv.get("text") or "\n".join(t["role"] + "\n" + t["content"] for t in conv["turns"])
             for conv in corpus.conversations(SEED, CONVERSATIONS))
    tok.train_from_iterator(texts, trainer)
    return tok


def load():
    from tokenizers import Tokenizer
    return Tokenizer.from_file(str(FILE))


def render(tok, conv):
    """(ids, learn): the conversation as the template writes it; learn marks the model's own tokens."""
    ids, learn = [], []

    def put(tokens, mine):
        ids.extend(tokens)
        learn.extend([mine] * len(tokens))

    if "text" in conv:
        put(tok.encode(conv["text"]).ids, True)
        put([IM_END], True)
        return ids, learn
    for turn in conv["turns"]:
        mine = turn["role"] == "assistant"
        put([IM_START], False)
        put(tok.encode(turn["role"] + "\n").ids, False)
        put(tok.encode(turn["content"]).ids, mine)
        put([IM_END], mine)
        put(tok.encode("\n").ids, False)
    return ids, learn


def prompt_ids(tok, turns):
    """The turns and the start of the model's answer."""
    return render(tok, {"turns": turns})[0] + [IM_START] + tok.encode("assistant\n").ids


if __name__ == "__main__":
    tokenizer = train()
    tokenizer.save(str(FILE))
    print(tokenizer.get_vocab_size(), "tokens")
