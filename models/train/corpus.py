"""Writes the training text: conversations in which somebody asks for a story and gets it.

    corpus.py --count 5 --seed 1            prints a few conversations
    corpus.py --heldout                     rewrites heldout.json

Same seed, same text. Every pair of hero and thing in HELD_OUT is kept out of training: no training
conversation contains both words. Twenty of them are the prompts of heldout.json.
"""

import argparse
import json
import random
import re
from pathlib import Path

import lexicon as lex
import plots as pl
import smalltalk

HERE = Path(__file__).parent
ISSUE_PROMPT = "Write a story about a cat who finds a key."

# (hero, plot, thing, adjective of the hero, adjective of the thing, place), never seen in training.
HELD_OUT = [
    ("cat", "find", "key", None, None, None),
    ("dog", "lose", "hat", "brave", None, None),
    ("fox", "find", "lantern", None, None, "forest"),
    ("rabbit", "build", "boat", None, None, None),
    ("queen", "lose", "ring", None, "golden", None),
    ("mouse", "share", "apple", None, None, None),
    ("dragon", "want", "balloon", "lonely", None, None),
    ("owl", "break", "vase", None, None, None),
    ("robot", "find", "flower", None, None, None),
    ("pirate", "find", "map", None, "old", "beach"),
    ("bear", "want", "drum", "shy", None, None),
    ("frog", "hide", "pearl", None, None, None),
    ("king", "steal", "pie", "greedy", None, None),
    ("girl", "find", "mirror", None, None, "attic"),
    ("elephant", "lose", "umbrella", None, "red", None),
    ("farmer", "build", "windmill", None, None, None),
    ("penguin", "find", "egg", None, None, "snow"),
    ("wizard", "lose", "book", "old", None, None),
    ("wolf", "give", "scarf", None, None, None),
    ("duck", "want", "bell", None, None, None),
    ("princess", "find", "sword", "clever", None, "cave"),
] + [(hero, "find", thing, None, None, None) for hero, thing in [
    ("dog", "key"), ("lion", "feather"), ("boy", "coin"), ("witch", "candle"), ("hen", "kite"),
    ("squirrel", "crown"), ("turtle", "compass"), ("horse", "violin"), ("pig", "telescope"),
    ("knight", "cup"), ("baker", "stone"), ("goat", "clock"), ("tiger", "letter"), ("sheep", "box"),
    ("deer", "lamp"), ("prince", "rope"), ("monkey", "shell"), ("otter", "bottle"),
    ("fairy", "pumpkin"), ("giant", "shoe")]]
HELD_OUT_PAIRS = {(row[0], row[2]) for row in HELD_OUT}

THING_CLASS = {thing: cls for cls, things in lex.THINGS.items() for thing in things}
COMMON_THINGS = [t for cls, things in lex.THINGS.items() if cls != "plain" for t in things]
COMMON_HEROES = [h for kinds in lex.HEROES.values() for h in kinds]
SEX = {h: s for s, kinds in lex.HEROES.items() for h in kinds if s != "e"} | {
    "mermaid": "f", "grandmother": "f", "grandfather": "m", "policeman": "m", "postman": "m",
    "cowboy": "m", "emperor": "m", "duke": "m", "bull": "m", "rooster": "m"}

VERBS = {
    "find": [("finds", "found"), ("finds", "found"), ("discovers", "discovered"), ("picks up", "picked up")],
    "lose": [("loses", "lost")],
    "build": [("builds", "built"), ("makes", "made")],
    "help": [("helps", "helped"), ("saves", "saved"), ("rescues", "rescued")],
    "meet": [("meets", "met"), ("makes friends with", "made friends with"), ("becomes friends with", "became friends with")],
    "afraid": [("is afraid of", "was afraid of"), ("is scared of", "was scared of"), ("fears", "feared")],
    "want": [("wants", "wanted"), ("wishes for", "wished for"), ("dreams of", "dreamed of"), ("looks for", "looked for"), ("needs", "needed")],
    "learn": [("learns to", "learned to"), ("wants to", "wanted to"), ("tries to", "tried to"), ("wants to learn to", "wanted to learn to")],
    "share": [("shares", "shared")],
    "break": [("breaks", "broke")],
    "give": [("gives away", "gave away")],
    "steal": [("steals", "stole"), ("takes", "took")],
    "hide": [("hides", "hid")],
    "buy": [("buys", "bought")],
    "plant": [("plants", "planted")],
    "chase": [("chases", "chased"), ("follows", "followed"), ("runs after", "ran after")],
    "lost": [("gets lost", "got lost")],
    "trip": [("goes", "went")],
    "sleep": [("cannot sleep", "could not sleep"), ("can't sleep", "couldn't sleep")],
}
WEIGHTS = {"find": 30, "lose": 14, "build": 9, "help": 9, "meet": 8, "afraid": 7, "want": 13, "learn": 8,
           "share": 7, "break": 5, "give": 5, "steal": 4, "hide": 5, "lost": 4, "trip": 5, "sleep": 3,
           "buy": 5, "plant": 3, "chase": 3}
PLOT_THINGS = {
    "find": [t for t in COMMON_THINGS if t not in lex.NOT_FINDABLE],
    "lose": [t for c in "opener treasure toy clothes map letter book music magic rain box tool light".split()
             for t in lex.THINGS[c]],
    "build": lex.BUILDABLE, "break": lex.BREAKABLE,
    "want": [t for t in COMMON_THINGS if THING_CLASS[t] not in ("letter", "dish", "care")],
    "buy": [t for c in "treasure toy clothes light book seed food tool music rain dish flower".split()
            for t in lex.THINGS[c]],
    "plant": lex.THINGS["seed"] + lex.THINGS["flower"] + ["pumpkin", "nut", "carrot", "cherry", "apple"],
    "share": lex.THINGS["food"] + ["blanket", "umbrella", "ball", "kite", "book", "puzzle", "boat", "sled"],
    "give": [t for c in "treasure toy clothes book music rain food flower light".split() for t in lex.THINGS[c]],
    "steal": [t for c in "treasure toy clothes food music".split() for t in lex.THINGS[c]],
    "hide": [t for c in "opener treasure toy book food magic box".split() for t in lex.THINGS[c]],
}
WITH_HERO = ("help", "meet", "chase")
PLACED = ("find", "lose", "build", "help", "meet", "share", "hide", "want", "buy", "plant", "chase")


# --- one story ------------------------------------------------------------------------------------

def article(phrase):
    return pl.A_BEFORE_VOWEL.sub(r"\1n ", "a " + phrase)


def draw_hero(rng, rare=True):
    roll = rng.random()
    if rare and roll < 0.04:
        return lex.invented_word(rng)
    if rare and roll < 0.14:
        return rng.choice(lex.RARE_HEROES)
    return rng.choice(COMMON_HEROES)


def draw_thing(rng, plot, rare):
    if plot in WITH_HERO:
        return draw_hero(rng, rare)
    if plot == "afraid":
        return rng.choice(list(lex.FEARS))
    if plot == "learn":
        return rng.choice(list(lex.SKILLS))
    if plot in ("lost", "trip"):
        return rng.choice(list(lex.PLACES))
    if plot == "sleep":
        return ""
    roll = rng.random() if rare else 1
    if plot not in ("build", "break", "share", "plant") and roll < 0.05:
        return lex.invented_word(rng)
    if plot not in ("build", "share", "plant") and roll < 0.25:
        return rng.choice(lex.THINGS["plain"])
    return rng.choice(PLOT_THINGS[plot])


def draw_hero_adj(rng, rare):
    roll = rng.random()
    if rare and roll < 0.12:
        return rng.choice(lex.RARE_ADJS)
    adj = rng.choice(list(lex.TRAITS))
    if roll < 0.24 and adj not in ("little", "small", "tiny", "big"):
        return adj + " little"
    return adj


def draw_thing_adj(rng, rare):
    return rng.choice(lex.RARE_THING_ADJS if rare and rng.random() < 0.15 else lex.THING_ADJS)


def draw_facts(rng, fixed=None, rare=True):
    """Who, what, where. `fixed` may say any of hero, plot, thing, hero_adj, thing_adj, place, name, sex.
    `rare`: the thing may be a rare or invented word; only right where the request names it."""
    f = {"hero": draw_hero(rng), "plot": rng.choices(list(WEIGHTS), WEIGHTS.values())[0]}
    f.update(fixed or {})
    f.setdefault("thing", draw_thing(rng, f["plot"], rare))
    f.setdefault("sex", SEX.get(f["hero"], rng.choice("mf")))
    f.setdefault("hero_adj", draw_hero_adj(rng, rare) if rng.random() < 0.7 else None)
    f.setdefault("thing_adj", draw_thing_adj(rng, rare) if rng.random() < 0.4 else None)
    f.setdefault("place", rng.choice(list(lex.PLACES)))
    f.setdefault("name", rng.choice(lex.NAMES[f["sex"]]))
    if f["hero_adj"] == f["hero"] or f["hero"] == "giant" and f["hero_adj"] in ("tiny", "small", "little"):
        f["hero_adj"] = None
    if f["plot"] in ("lost", "trip"):
        f["place"] = f["thing"]
    return f


def friend_kind(rng, facts, sex):
    if facts["plot"] in WITH_HERO:
        return facts["thing"]
    while True:
        kind = rng.choice(COMMON_HEROES)
        if SEX.get(kind, sex) == sex and kind != facts["hero"] and kind not in ("child", "man", "woman"):
            return kind


PRONOUNS = {"m": ("he", "him", "his", "himself"), "f": ("she", "her", "her", "herself")}


def cap(text):
    return text[:1].upper() + text[1:]


def slots(rng, f):
    """The slots of plots.py, filled from the facts."""
    fsex = "f" if f["sex"] == "m" else "m"
    fk = friend_kind(rng, f, fsex)
    if f["plot"] in WITH_HERO:
        fsex = SEX.get(fk, fsex)
    fname = rng.choice([n for n in lex.NAMES[fsex] if n != f["name"]])
    he, him, his, himself = PRONOUNS[f["sex"]]
    prep, spots = lex.PLACES[f["place"]]
    fadj = rng.choice(["", "", "little ", "old ", "young ", "kind ", "small ", "wise "])
    aF = rng.choice([article(f"{fadj}{fk} named {fname}"), f"{fname} the {fk}",
                     f"{fname}, {article(fadj + fk)},"])
    t = {"N": f["name"], "K": f["hero"], "he": he, "him": him, "his": his, "himself": himself,
         "He": cap(he), "His": cap(his), "F": fname, "fk": fk, "aFk": article(fadj + fk),
         "T": f["thing"], "p": f["place"], "in_p": f"{prep} the {f['place']}", "spot": rng.choice(spots)}
    adj = (f["thing_adj"] + " ") if f["thing_adj"] else ""
    t["aT"] = article(adj + f["thing"])
    t["aTc"] = cap(article(adj + f["thing"]))
    t["aF2"] = article(fadj + fk)
    t["aF"] = aF
    t["aFc"] = cap(aF)
    t["fhe"], t["fhim"], t["fhis"], _ = PRONOUNS[fsex]
    t["Fhe"], t["Fhis"] = cap(t["fhe"]), cap(t["fhis"])
    t["aK"] = article((f["hero_adj"] + " " if f["hero_adj"] else "") + f["hero"])
    t["spotCap"], t["In_p"] = cap(t["spot"]), cap(t["in_p"])
    return t


def mend(text):
    """Commas that an apposition leaves before other marks; doubled blanks."""
    text = re.sub(r",([,.!?])", r"\1", text)
    text = re.sub(r"(, an? [^,.\"]+), ([a-z])", r"\1, \2", text)
    return re.sub(r"  +", " ", text).strip()


def thing_class(f):
    if f["plot"] == "afraid":
        return lex.FEARS[f["thing"]]
    return THING_CLASS.get(f["thing"], "plain")


def tell(rng, f, style=None):
    """The story of these facts; records the friend in them. style: None, short, long, bedtime, happy."""
    t = slots(rng, f)
    place_first = rng.random() < 0.3 and f["plot"] not in ("lost", "trip")
    opening = [rng.choice(pl.OPEN_WITH_PLACE if place_first else pl.OPEN)]
    traits = lex.TRAITS.get((f["hero_adj"] or "").split(" ")[0])
    if traits and (style == "long" or rng.random() < 0.65):
        opening.append(rng.choice(traits))
    if style == "long" or (style != "short" and rng.random() < 0.3):
        opening.append(rng.choice(pl.HABITS))
    t["out"] = pl.expand(rng.choice(pl.OUT if place_first else pl.OUT_AT_PLACE), t, rng)
    body = getattr(pl, "plot_" + f["plot"])(t, rng, thing_class(f))
    text = "\n\n".join(" ".join(s for s in par if s) for par in [opening + body[0]] + body[1:])
    friendly = "{F}" in text or "{aF" in text
    ending = []
    if style == "bedtime":
        ending.append(rng.choice(pl.END_BEDTIME))
    elif style != "short" or rng.random() < 0.7:
        ending.append(rng.choice(pl.END_FRIEND if friendly else pl.END_ALONE))
    if style != "bedtime" and rng.random() < 0.25:
        ending.append(rng.choice(pl.THE_END))
    text += ("\n\n" if style == "long" else " ") + " ".join(ending)
    f["friend"], f["friend_kind"] = (t["F"], t["fk"]) if friendly else (None, None)
    return mend(pl.expand(text, t, rng))


def required(f):
    """Words that a story of these facts must contain."""
    words = [f["hero"], f["name"], f["thing"]]
    words += [f[k] for k in ("hero_adj", "thing_adj") if f.get("asked") and k in f["asked"]]
    if "place" in f.get("asked", ()):
        words.append(f["place"])
    return [w for w in words if w]


def story(rng, f, style=None):
    """tell(), until the answer holds all that was asked for."""
    for _ in range(40):
        text = tell(rng, f, style)
        if all(w in text for w in required(f)):
            return text
    raise ValueError(f"no story for {f}")


# --- requests -------------------------------------------------------------------------------------

ASK = [
    "Write a {st} about {np}.", "Write a {st} about {np}.", "Write me a {st} about {np}.",
    "Tell me a {st} about {np}.", "Tell a {st} about {np}.", "Tell me a {st} about {np}, please.",
    "Can you write a {st} about {np}?", "Can you tell me a {st} about {np}?",
    "Could you write a {st} about {np}?", "Could you please tell me a {st} about {np}?",
    "Please write a {st} about {np}.", "Please tell me a {st} about {np}.",
    "I want a {st} about {np}.", "I would like a {st} about {np}.", "I'd like to hear a {st} about {np}.",
    "I want to hear a {st} about {np}.", "Make up a {st} about {np}.", "Give me a {st} about {np}.",
    "A {st} about {np}.", "A {st} about {np}, please.", "Create a {st} about {np}.",
    "Do you know a {st} about {np}?", "Will you tell me a {st} about {np}?",
    "My child wants a {st} about {np}.", "Let's hear a {st} about {np}.", "Compose a {st} about {np}.",
    "Write a {st} where {npm}.", "Tell me a {st} in which {npm}.", "I need a {st} about {np}.",
    "Hi! Can you tell me a {st} about {np}?", "Hello, please write a {st} about {np}.",
    "Now write a {st} about {np}.", "How about a {st} about {np}?",
]
ASK_ANY = ["Tell me a {st}.", "Write a {st}.", "Can you tell me a {st}?", "Please write a {st} for me.",
           "I want to hear a {st}.", "Tell me a {st}, please.", "Do you know a {st}?", "A {st}, please.",
           "Write me a {st}.", "Tell me any {st}.", "Make up a {st}."]
KINDS = ["story"] * 9 + ["short story"] * 3 + ["tale", "little story", "fairy tale", "bedtime story",
         "long story", "happy story", "nice story"]


def style_of(kind):
    return {"short story": "short", "little story": "short", "long story": "long",
            "bedtime story": "bedtime"}.get(kind)


def thing_phrase(rng, f, asked):
    if f["plot"] in ("afraid", "learn"):
        return f["thing"]
    adj = ""
    if f["plot"] in WITH_HERO:
        return article(f["thing"])
    if f["thing_adj"] and rng.random() < 0.5:
        adj = f["thing_adj"] + " "
        asked.add("thing_adj")
    elif f["thing_adj"] in lex.RARE_THING_ADJS:
        f["thing_adj"] = None
    if f["plot"] in ("lose", "break", "hide", "share") and rng.random() < 0.15:
        return f"{PRONOUNS[f['sex']][2]} {adj}{f['thing']}"
    return article(adj + f["thing"])


def deed(rng, f, asked):
    """(what the hero does, in the present; the same in the past)"""
    verb = rng.choice(VERBS[f["plot"]])
    prep = lex.PLACES[f["place"]][0]
    if f["plot"] == "sleep":
        tail = ""
    elif f["plot"] == "lost":
        tail = f" {prep} the {f['place']}"
        asked.add("place")
    elif f["plot"] == "trip":
        verb = rng.choice([("goes to", "went to"), ("visits", "visited"), ("travels to", "traveled to")])
        tail = f" the {f['place']}"
        asked.add("place")
    else:
        tail = " " + thing_phrase(rng, f, asked)
        if f["plot"] in PLACED and rng.random() < 0.25:
            tail += f" {prep} the {f['place']}"
            asked.add("place")
    return verb[0] + tail, verb[1] + tail


def request(rng, f, bare):
    """A user's turn that asks for the story of `f`, and the style it asks for. `bare`: no deed named."""
    asked = set()
    f["asked"] = asked
    kind = rng.choice(KINDS)
    st = kind
    hero = f["hero"]
    if f["hero_adj"] and rng.random() < 0.45:
        asked.add("hero_adj")
        hero = f["hero_adj"] + " " + hero
    np = article(hero)
    if rng.random() < 0.14:
        if rng.random() < 0.25:
            f["name"] = cap(lex.invented_word(rng))
        np += rng.choice([" named ", " called "]) + f["name"]
    if "hero_adj" not in asked and f["hero_adj"] in lex.RARE_ADJS:
        f["hero_adj"] = None
    ask = rng.choice(ASK)
    if bare:
        np = bare_request(rng, f, np)
        ask = ask.replace("where {npm}", "about {np}").replace("in which {npm}", "about {np}")
        text = ask.format(st=st, np=np)
    else:
        deed_said = deed(rng, f, asked)[rng.random() < 0.15]
        who = rng.choice([" who ", " who ", " that "])
        text = ask.format(st=st, np=np + who + deed_said, npm=np + " " + deed_said)
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!uni)", r"\1n ", text)
    if rng.random() < 0.1:
        text = text.rstrip(".")
    if rng.random() < 0.1:
        text = text[0].lower() + text[1:]
    return text, style_of(kind)


def bare_request(rng, f, np):
    """Only who, or who and what, or who and where: the plot is the teller's choice."""
    prep = lex.PLACES[f["place"]][0]
    f["asked"] &= {"hero_adj"}
    roll = rng.random()
    if f["plot"] in ("find", "lose", "want", "meet", "help", "share", "build") and roll < 0.45:
        np += " and " + (article(f["thing"]))
    elif f["plot"] in PLACED and roll < 0.65:
        np += f" {prep} the {f['place']}"
        f["asked"].add("place")
    return np


# --- conversations --------------------------------------------------------------------------------

SYSTEM = ["You are a helpful assistant.", "You are a story-teller.", "You are Bud, a friendly story-teller.",
          "You tell stories to children.", "You write short stories.", "Be kind and clear.",
          "You are a creative writer who loves simple stories."]


def ask_and_tell(rng, fixed=None):
    bare = rng.random() < 0.14
    f = draw_facts(rng, fixed, rare=not bare)
    text, style = request(rng, f, bare)
    return f, [{"role": "user", "content": text}, {"role": "assistant", "content": story(rng, f, style)}]


THEMES = {"friendship": "meet", "friends": "meet", "two friends": "meet", "kindness": "help", "helping": "help",
          "courage": "afraid", "fear": "afraid", "being brave": "afraid", "sharing": "share",
          "honesty": "break", "the truth": "break", "forgiveness": "steal", "learning": "learn",
          "patience": "plant", "a garden": "plant", "a treasure": "find", "a secret": "find",
          "an adventure": "lost", "a journey": "trip", "a dream": "sleep", "the night": "sleep",
          "hard work": "build", "a gift": "give", "love": "give", "a lost thing": "lose"}


def ask_anything(rng):
    """No hero asked for, or only a thing, a place or a theme."""
    kind = rng.choice(KINDS)
    if rng.random() < 0.2:
        theme = rng.choice(list(THEMES))
        f = draw_facts(rng, {"hero": rng.choice(COMMON_HEROES), "plot": THEMES[theme]}, rare=False)
        text = rng.choice(ASK[:20]).format(st=kind, np=theme, npm="")
        return f, [{"role": "user", "content": text},
                   {"role": "assistant", "content": story(rng, f, style_of(kind))}]
    f = draw_facts(rng, {"hero": rng.choice(COMMON_HEROES)}, rare=False)
    roll = rng.random()
    if roll < 0.5 or f["plot"] not in ("find", "lose", "want"):
        text = rng.choice(ASK_ANY).format(st=kind)
    elif roll < 0.8:
        text = rng.choice(ASK[:20]).format(st=kind, np=article(f["thing"]), npm="")
    else:
        text = rng.choice(ASK[:20]).format(st=kind, np="the " + f["place"], npm="")
        f["asked"] = {"place"}
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!uni)", r"\1n ", text)
    return f, [{"role": "user", "content": text},
               {"role": "assistant", "content": story(rng, f, style_of(kind))}]


def conversation(rng):
    """One conversation, or {"text": …} for plain text without turns."""
    roll = rng.random()
    if roll < 0.03:
        return {"text": story(rng, draw_facts(rng, {"hero": rng.choice(COMMON_HEROES)}, rare=False))}
    turns = []
    if rng.random() < 0.12:
        turns.append({"role": "system", "content": rng.choice(SYSTEM)})
    if roll < 0.12:
        for _ in range(rng.choice((1, 1, 2, 3))):
            turns += smalltalk.exchange(rng)
        if rng.random() < 0.2:
            turns += ask_and_tell(rng)[1]
        return {"turns": turns}
    if rng.random() < 0.1:
        turns += smalltalk.exchange(rng)
    f, pair = ask_anything(rng) if roll < 0.17 else ask_and_tell(rng)
    turns += pair
    while rng.random() < 0.18 and len(turns) < 9:
        if rng.random() < 0.25:
            f, pair = ask_and_tell(rng)
            turns += pair
        elif rng.random() < 0.12:
            f, pair = another(rng)
            turns += pair
        else:
            turns += smalltalk.follow_up(rng, f, pl)
    return {"turns": turns}


def another(rng):
    f = draw_facts(rng, {"hero": rng.choice(COMMON_HEROES)}, rare=False)
    text = rng.choice(["Another one!", "Tell me another story.", "One more, please.", "Another story, please.",
                       "Can you tell me one more?", "Again! A new one.", "A different story, please."])
    return f, [{"role": "user", "content": text}, {"role": "assistant", "content": story(rng, f)}]


def words_of(conv):
    text = conv.get("text") or " ".join(t["content"] for t in conv["turns"])
    return set(re.findall(r"[a-z-]+", text.lower()))


def leaks(conv):
    """Whether a held-out pair of hero and thing occurs."""
    words = words_of(conv)
    return any(hero in words and thing in words for hero, thing in HELD_OUT_PAIRS)


def conversations(seed, count):
    """`count` training conversations, none with a held-out pair."""
    rng = random.Random(seed)
    while count:
        conv = conversation(rng)
        if not leaks(conv):
            count -= 1
            yield conv


# --- held-out prompts -----------------------------------------------------------------------------

def heldout_prompts():
    rows = []
    present = {"give": "gives away", "trip": "goes to"}
    for i, (hero, plot, thing, hadj, tadj, place) in enumerate(HELD_OUT[1:21]):
        np = article((hadj + " " if hadj else "") + hero)
        tp = article((tadj + " " if tadj else "") + thing)
        where = f" {lex.PLACES[place][0]} the {place}" if place else ""
        ask = ("Write a story about {}.", "Tell me a story about {}.",
               "Can you write a short story about {}?", "Please tell me a story about {}.")[i % 4]
        prompt = ask.format(f"{np} who {present.get(plot) or VERBS[plot][0][0]} {tp}{where}")
        rows.append({"prompt": prompt, "must": [w for w in (hero, thing, hadj, tadj, place) if w]})
    return rows


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--count", type=int, default=5)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--heldout", action="store_true")
    args = ap.parse_args()
    if args.heldout:
        body = {"issue": {"prompt": ISSUE_PROMPT, "must": ["cat", "key"]}, "prompts": heldout_prompts()}
        (HERE / "heldout.json").write_text(json.dumps(body, indent=1) + "\n")
        return
    for conv in conversations(args.seed, args.count):
        if "text" in conv:
            print("RAW\n" + conv["text"])
        for turn in conv.get("turns", ()):
            print(f"{turn['role'].upper()}: {turn['content']}")
        print("=" * 60)


if __name__ == "__main__":
    main()
