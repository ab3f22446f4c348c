"""Make tests/golden/unigram.txt: what SentencePiece makes of texts with a small unigram model.

The model is trained here, on the sentences below, with a normaliser of a few rules of each kind, and
goes into models/xlm-roberta.gguf (embed.py): make both together. Ids are those of that file: what
XLM-RoBERTa's tokenizer makes of SentencePiece's (fairseq's four tokens come first).

    python tests/golden/make/unigram.py      needs sentencepiece
"""

import io
import pathlib
import random
import tempfile

import sentencepiece as spm

OUT = pathlib.Path(__file__).resolve().parents[1] / "unigram.txt"
SENTENCES = """
The quick brown fox jumps over the lazy dog, and the dog sleeps on.
All human beings are born free and equal in dignity and rights.
They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood.
Everyone has the right to life, liberty and security of person.
Whoever reads this line reads it twice; whoever reads it twice remembers it.
Alle Menschen sind frei und gleich an Würde und Rechten geboren.
Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.
Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.
Tous les êtres humains naissent libres et égaux en dignité et en droits.
Ils sont doués de raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.
Tout individu a droit à la vie, à la liberté et à la sûreté de sa personne.
Todos los seres humanos nacen libres e iguales en dignidad y derechos.
Todo individuo tiene derecho a la vida, a la libertad y a la seguridad de su persona.
Все люди рождаются свободными и равными в своем достоинстве и правах.
Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
"""
# From, to: code points. One to one, one to many, many to one, to nothing, white space, nested prefixes.
RULES = [("\t", " "), ("\n", " "), ("\r", ""), ("\u00a0", " "), ("\u3000", " "), ("\u200b", ""), ("\ufb01", "fi"),
         ("\ufb00", "ff"), ("\ufb03", "ffi"), ("\u2026", "..."), ("e\u0301", "\u00e9"), ("e\u0300", "\u00e8"),
         ("u\u0308", "\u00fc"), ("u\u0308\u0301", "\u01d8"), ("\u3316", "\u30ad\u30ed\u30e1\u30fc\u30c8\u30eb"),
         ("\u2460", "1"), ("\u00bc", "1/4"), ("\u00a8", " \u0308")]
RULES += [(chr(0xff01 + i), chr(0x21 + i)) for i in range(94)]
TEXTS = ["", " ", "a", "the", " the  dog ", "fox\tdog\n\nfree", "Würde", "Wu\u0308rde", "cafe\u0301, cafe\u0300",
         "u\u0308\u0301 u\u0308x", "ＡＢＣ１２３！", "ofﬁce aﬀair ﬃ…", "\u200bfree\u200b dom", "㌖ ¼ ①", "¨¨", "\u00a0 \u3000",
         "人人生而自由", "すべて の 人間", "모든 인간은", "\U0001f600", "a\U0001f600\U0001f601b \U0001f602 c",
         "x\u2581y \u2581z", "<s> </s> <unk> <mask>", "Zażółć gęślą jaźń", "\ufb01" * 40, "right" * 50,
         "Everyone reads it twice."]
N_RANDOM = 160


def train():
    """The bytes of the trained model."""
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.tsv"
        rules.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n"
                                 for a, b in RULES), encoding="utf-8")
        out = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES.strip().split("\n")), model_writer=out, model_type="unigram", vocab_size=420,
            hard_vocab_limit=False, normalization_rule_tsv=str(rules), character_coverage=1.0, num_threads=1,
            unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2)
    return out.getvalue()


def random_texts():
    rng = random.Random(1)
    parts = SENTENCES.split() + [a for a, _ in RULES] + [" ", "  ", "\U0001f600", "ß", "e", "u", "\u0301"]
    return ["".join(rng.choice(parts) + rng.choice(["", "", " "]) for _ in range(rng.randint(1, 14)))
            for _ in range(N_RANDOM)]


def main():
    model = spm.SentencePieceProcessor(model_proto=train())
    lines = []
    for text in TEXTS + random_texts():
        ids = [3 if i == 0 else i + 1 for i in model.encode(text)]
        lines.append(" ".join([text.encode().hex() or "-", *map(str, ids)]))
    OUT.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} texts, {model.get_piece_size()} pieces")


if __name__ == "__main__":
    main()
