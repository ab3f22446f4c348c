"""The turns that are no story: greetings, who are you, thanks, off-topic, and questions about a story."""

NAMES = "Anna Ben Maria Peter Lena Paul Sara David Emily Omar Mei Ali Nina Carlos Yuki Tim Eva John".split()

GREET = (["Hello", "Hi", "Hey", "Hi there", "Good morning", "Good evening", "Hello Bud", "Hey there", "Hello!",
          "Hi!", "Hello, how are you?", "How are you?", "Good day", "hi", "hello"],
         ["Hello! [What shall I tell you a story about|Would you like to hear a story]?",
          "Hi there! [I know many stories. Who should mine be about|Shall I tell you a story]?",
          "Hello! I am [fine|happy to see you]. Would you like a story?"])
WHO = (["Who are you?", "What are you?", "What is your name?", "What can you do?", "Tell me about yourself.",
        "Are you a robot?", "What do you do?", "Can you help me?", "Who made you?", "Are you a person?",
        "what is your name", "who are you", "What do you know?"],
       ["I am Bud, a small story-teller. [Tell me a hero and a thing, and I will make a story of them|Ask me for a story about anyone you like].",
        "My name is Bud. I am a very small language model, and I tell stories. [Shall I tell you one|What shall it be about]?"])
THANKS = (["Thank you!", "Thanks!", "Thank you, that was lovely.", "Great story!", "I like it.", "I love it!",
           "Nice.", "Very good.", "That was beautiful.", "thanks", "Wow!", "Good job.", "Cool!", "ok", "Okay."],
          ["You are welcome! [Would you like another one|Shall I tell you one more]?",
           "I am glad that you liked it. [Come back any time|Just ask when you want another story]!",
           "Thank you! [I have many more stories|It was fun to tell it]."])
BYE = (["Bye!", "Goodbye.", "Good night!", "See you tomorrow.", "Bye bye", "I have to go now."],
       ["Goodbye! [Come back soon for another story|Sweet dreams|Until the next story]!",
        "Bye! I will have a new story for you next time."])
NO = (["No.", "No, thanks.", "Not now.", "No thank you."], ["All right. [Just ask when you want a story|I will be here]."])

TOPICS = """the weather|football|France|Germany|China|the economy|physics|history|music|cars|computers|the news|money|
    politics|math|chemistry|biology|medicine|the president|stocks|space|cooking|Python|Linux|movies|health|London|
    Paris|the stock market|taxes|law|philosophy|science|sports|games|fashion|travel|religion|energy|trains""".replace(
    "\n", "").replace("    ", "").split("|")
OFF_TOPIC = [
    "What is the capital of {c}?", "What is {a} plus {b}?", "How much is {a} times {b}?", "What is {a} + {b}?",
    "Tell me about {t}.", "What do you think about {t}?", "Explain {t} to me.", "Write an essay about {t}.",
    "What is the latest news about {t}?", "Can you explain how {t} works?", "Who won the game yesterday?",
    "What time is it?", "What day is it today?", "How will the weather be tomorrow?", "Write a program that sorts numbers.",
    "Write a function in Python.", "Translate this into French.", "Who is the president of {c}?", "How tall is the highest mountain?",
    "Write an email to my boss.", "How do I fix my computer?", "What is the meaning of life?", "Solve this equation: x + {a} = {b}.",
    "Give me a recipe for soup.", "How far is the sun?", "Why is the sky blue?", "How many people live in {c}?",
    "Recommend a good movie.", "When was {c} founded?", "What is the best way to learn {t}?", "Do you like {t}?",
    "Give me some advice about {t}.", "Help me with my homework.", "Write a poem about {t}.", "Sing a song.",
    "Where can I buy a car?", "Is {t} important?", "What language do they speak in {c}?", "Count to {a}.", "Summarize {t} for me.",
]
COUNTRIES = "France Germany Spain Italy China Japan India Brazil Canada Egypt Mexico Poland Kenya Norway".split()
ONLY_STORIES = [
    "I only know how to tell stories. Shall I tell you one?",
    "[I am sorry, but|I am afraid that] I do not know that. I only know how to tell stories. Shall I tell you one?",
    "That is too hard for me. I can only tell stories. Would you like one?",
]

SHORTER = ["Make it shorter.", "Can you make it shorter?", "Shorter, please.", "That is too long.", "Sum it up.",
           "Make it short.", "Can you shorten it?", "Tell it in one or two sentences.", "A shorter version, please."]
MORE = ["What happened next?", "Continue.", "Go on.", "Tell me more.", "And then?", "Please continue the story.",
        "What happened then?", "Continue the story.", "More, please!", "Can you go on?"]
DID = {
    "find": "found {aT}", "lose": "lost {his} {T} and got it back", "build": "built {aT}",
    "help": "helped {F}, {aFk}", "meet": "met {F}, {aFk}", "afraid": "was afraid of {T} but found courage",
    "want": "wanted {aT} and got one in the end", "learn": "wanted to {T} and learned it",
    "share": "shared {aT}", "break": "broke {aT} and said sorry", "give": "gave away {aT}",
    "steal": "took {aT} but gave it back", "hide": "hid {aT} and had to look for it",
    "lost": "got lost {in_p} and found the way home", "trip": "went to the {p}", "sleep": "could not sleep at first",
    "buy": "bought {aT}", "plant": "planted {aT}", "chase": "ran after {F}, {aFk}",
}
SEQUELS = [
    "The next morning, {N} [woke up early|could not wait to go out]. {who} went back to the {p}, and this time [it was raining|the sun was shining]. They [built a little house of leaves|found a nest with three eggs|saw a rainbow over the trees]. \"[What a day|This is even better than yesterday]!\" said {N}. In the evening, they [went home happy|told everyone what they had seen].",
    "A week later, a letter came for {N}. It said: \"[Come to the big feast|There will be a party tonight]!\" {who} put on their best clothes and went there together. There was [music|cake] and [dancing|laughter], and {N} told the whole story from the beginning. Everyone [clapped|listened] until the very last word.",
    "When winter came, snow fell {in_p}. {who} [made a snowman|went sliding down the hill] and then drank hot milk by the fire. \"Do you remember how it all began?\" asked {N}. They laughed and talked until late at night.",
]


def fill(rng, template, **slots):
    from plots import expand
    return expand(template, slots, rng)


def pair(user, answer):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]


def exchange(rng):
    """A question and an answer that need no story."""
    roll = rng.random()
    if roll < 0.42:
        user = rng.choice(OFF_TOPIC).format(c=rng.choice(COUNTRIES), t=rng.choice(TOPICS),
                                            a=rng.randint(2, 99), b=rng.randint(2, 99))
        return pair(user, fill(rng, rng.choice(ONLY_STORIES)))
    if roll < 0.5:
        name = rng.choice(NAMES)
        user = rng.choice(["My name is {}.", "I am {}.", "Hi, I am {}.", "Hello, my name is {}."]).format(name)
        return pair(user, fill(rng, "[Hello|Nice to meet you], " + name + "! [Would you like to hear a story|What shall I tell you a story about]?"))
    users, answers = rng.choice([GREET, GREET, WHO, WHO, THANKS, BYE, NO])
    return pair(rng.choice(users), fill(rng, rng.choice(answers)))


def follow_up(rng, f, plots):
    """A turn about the story of facts `f` that was just told."""
    his = "his" if f["sex"] == "m" else "her"
    prep = plots_place(f["place"])
    art = lambda words: plots.A_BEFORE_VOWEL.sub(r"\1n ", "a " + words)
    slots = {"N": f["name"], "K": f["hero"], "T": f["thing"], "his": his, "in_p": prep, "p": f["place"],
             "F": f["friend"] or "", "aFk": art(f["friend_kind"] or ""),
             "aT": art((f["thing_adj"] + " " if f["thing_adj"] else "") + f["thing"]),
             "He": "He" if f["sex"] == "m" else "She", "him": "him" if f["sex"] == "m" else "her"}
    slots["did"] = DID[f["plot"]].format_map(slots)
    slots["who"] = "{N} and {F}".format_map(slots) if f["friend"] else "{N} and {his} family".format_map(slots)
    roll = rng.random()
    if roll < 0.25:
        end = " In the end, {N} and {F} were friends." if f["friend"] and f["plot"] not in ("help", "meet", "chase") else rng.choice(
            [" {He} was very happy in the end.", " It was a day that {N} never forgot."])
        return pair(rng.choice(SHORTER), fill(rng, "[{N} the {K} {did}.|A {K} named {N} {did}.]" + end, **slots))
    if roll < 0.5:
        return pair(rng.choice(MORE), fill(rng, rng.choice(SEQUELS), **slots))
    if roll < 0.72:
        return question(rng, f, slots)
    users, answers = THANKS if rng.random() < 0.8 else BYE
    return pair(rng.choice(users), fill(rng, rng.choice(answers)))


def plots_place(place):
    from lexicon import PLACES
    return f"{PLACES[place][0]} the {place}"


def question(rng, f, slots):
    """A question about the story, with its answer."""
    asks = [("What was the name of the {K}?", "The {K} was named {N}."),
            ("What is the {K} called?", "The {K} is called {N}."),
            ("Who is the story about?", "It is about {N}, a {K}."),
            ("Who is {N}?", "{N} is a {K}."),
            ("What is the story about?", "It is about {N}, a {K} who {did}.")]
    if f["friend"]:
        asks += [("Who is {F}?", "{F} is {aFk}, and a friend of {N}."),
                 ("Who was {N}'s friend?", "{N}'s friend was {F}, {aFk}.")]
    verb = {"find": "find", "lose": "lose", "build": "build", "want": "want", "share": "share", "hide": "hide",
            "buy": "buy", "plant": "plant"}.get(f["plot"])
    if verb:
        slots = dict(slots, v=verb)
        answer = {"lose": "{N} lost {his} {T}.", "find": "{N} found {aT}.", "build": "{N} built {aT}.",
                  "want": "{N} wanted {aT}.", "share": "{N} shared {aT}.", "hide": "{N} hid {aT}.",
                  "buy": "{N} bought {aT}.", "plant": "{N} planted {aT}."}[f["plot"]]
        asks += [("What did {N} {v}?", answer), ("What did the {K} {v}?", answer)]
    ask, answer = rng.choice(asks)
    return pair(fill(rng, ask, **slots), fill(rng, answer, **slots))
