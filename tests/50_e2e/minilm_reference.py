"""What the official code makes of texts: {"folder", "texts", "max"} on standard input, vectors on
standard output, as JSON. Mean of the last states, made unit length: what sentence-transformers does
for this model. Runs in whichever Python has torch and transformers (test_minilm.py)."""
import json
import sys

import torch
import transformers


def main():
    asked = json.load(sys.stdin)
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked["folder"])
    model = transformers.AutoModel.from_pretrained(asked["folder"]).eval()
    vectors = []
    for text in asked["texts"]:
        tokens = tokenizer(text, truncation=True, max_length=asked["max"], return_tensors="pt")
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state[0].mean(0)
        vectors.append((mean / mean.norm()).tolist())
    json.dump(vectors, sys.stdout)


if __name__ == "__main__":
    main()
