"""Make tests/golden/pretok.txt: texts, and the words that Hugging Face tokenizers cuts them into.

Each rule set is the list of expressions of its models' own tokenizer.json, run as isolated splits
by the official library (Oniguruma); ours are hand-written and must cut at the same places. The
characters are from Unicode 10 or older, so that no table's age matters.

    python tests/golden/make/pretok.py      needs tokenizers
"""

import pathlib
import random

from tokenizers import Regex, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parents[1] / "pretok.txt"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = [r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*"]
DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅ"
    "Ὀ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ"
    "Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")
CJK = "[一-龥ࠀ-一가-퟿]+"


def words(*alternatives):
    return "|".join(alternatives)


RULES = {
    "gpt-2": [GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "llama-bpe": [words(SHORT, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1,3}", REST, SPACES)],
    "minicpm5": [r"\p{N}{1,3}", words(SHORT, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}+", REST, SPACES)],
    "qwen2": [words(SHORT, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}", REST, SPACES)],
    "bailingmoe": [words(r"'(?i:[sdmt]|ll|ve|re)", r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"\p{N}",
                         r" ?[^\s\p{L}\p{N}]++[\r\n]*", r"\s*[\r\n]|\s+(?!\S)|\s+")],
    "qwen35": [words(SHORT, r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", r"\p{N}", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*", SPACES)],
    "ufakzeka": [words(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}", REST, SPACES)],
    "seed-coder": [words(SHORT, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1}", r" ?[^\s\p{L}\p{N}\r\n]+", SPACES)],
    "laguna": [r"[^\n]+|[\n]+", words(SHORT, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}", REST, SPACES)],
    "gpt-4o": [words(CASED[0] + SHORT + "?", CASED[1] + SHORT + "?", r"\p{N}{1,3}", REST[:-1].replace(r"\n]", r"\n/]") + "*", SPACES)],
    "tekken": [words(*CASED, r"\p{N}", REST[:-1].replace(r"\n]", r"\n/]") + "*", SPACES)],
    "deepseek-llm": [r"[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CJK, r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
                    r" ?[\p{P}\p{S}]+[\r\n]*|" + SPACES],
    "bloom": [r" ?[^(\s|.,!?…。，、।۔،)]+"],
    "viking": [r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"],
    "gemma4": [r"[^\n]+|[\n]+"],
}

TEXTS = [
    "a", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "  \n  ", "  a", "a  ", " a", "a b", "a  b",
    "I'm you're we've he'll she'd it's don't I'M YOU'RE WE'VE 'S 'Ll 'xyz '", "x's's", "HELLO'S hello's A'sB",
    "1", "12", "123", "1234", "12345678 123 1 22", " 1", "  12", "a1b2", "1.5e-3", "½ ² Ⅷ ① १२३४",
    "Hello, world!", "Hello,world!\n\nfoo", "f(x) = x**2; // ok\n\t\treturn x;\r\n\r\n}", "$5 + 10% < 3^2 | ~`x`",
    "HTMLParser parseHTML aB AbC ABc ABC aBC", "ǅ ǅabc aǅ ʰa aʰ Aʰ ʰ", "中文和English混合 日本語テキスト 한국어 텍스트",
    "Ünïcödé ÉCOLE école e\u0301cole E\u0301COLE", "\u0301", "\u0301a", "a\u0301\u0301 b\u0301", " \u0301", "!\u0301a",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "مرحبا بالعالم", "😀 😶‍🌫️ 👍🏽", "\u200b\u200ba\u200b", "a\u00a0b \u00a0c\u3000d\u3000\u3000e",
    "\u0085a\u0085\u0085b", "\x00\x01a\x00 \x7f", "path/to/file ///\n/ ://x", "..\n..\r\n..", "...  ...", "a\u2028b\u2029",
    "  \t \n \t x", "\n\n\nx\n\n\n", "x \r y", "_a_ __b -c- #d @e <f> \\g", "“quoted” ‘single’ „low“ «g»", "１２３ＡＢＣ！？",
]
ALPHABET = list("aZbéÉ01½²' \t\n\r.,!/'\"$+<_`") + ["  ", "'s", "'LL", "中", "あ", "한", "ʰ", "ǅ", "\u0301", "\u0903", "😀", "\u200b",
                                                 "\u00a0", "\u3000", "。", "١", "Ж", "ж", "\x01", "\u2026"]


def main():
    rng = random.Random(1)
    texts = TEXTS + ["".join(rng.choice(ALPHABET) for _ in range(rng.randint(2, 24))) for _ in range(160)]
    lines = ["text " + t.encode().hex() for t in texts]
    for name, patterns in RULES.items():
        rule = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
        lines.append("rule " + name)
        for text in texts:
            lines.append(" ".join(str(len(w.encode())) for w, _ in rule.pre_tokenize_str(text)))
    OUT.write_text("\n".join(lines) + "\n")


main()
