"""What can happen in a story: plots, their beats, and the sentences that say them.

A template may hold alternatives, `[a|b|c]`, nested, and slots, `{N}`. Slots for the hero: {N} name,
{K} kind, {he} {him} {his} {himself} {He} {His}; {aF} a friend with article, kind and name, {F} the
friend's name, {fk} {fhe} {fhim} {fhis}; {T} the thing alone, {aT} with article and adjective; {in_p}
the place with its preposition, {p} the place alone, {spot} a spot in it. The friend's pronoun always
differs from the hero's, so that a pronoun says who is meant.

Not here: the words (lexicon.py), the requests and conversations (corpus.py).
"""

import re

from lexicon import SKILLS

INNER_CHOICE = re.compile(r"\[([^\[\]]*)\]")
A_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIO])(?!one |uni|use|euro|U)")


def expand(template, ctx, rng):
    """Choose the alternatives, fill the slots, mend a/an."""
    while "[" in template:
        template = INNER_CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), template)
    return A_BEFORE_VOWEL.sub(r"\1n ", template.format_map(ctx))


# --- openings -------------------------------------------------------------------------------------

OPEN_WITH_PLACE = [
    "Once upon a time, {aK} named {N} lived {in_p}.",
    "Long ago, {in_p}, there lived {aK} named {N}.",
    "There once was {aK} called {N} who lived {in_p}.",
    "{N} was {aK} who lived {in_p}.",
    "Once there lived {aK} {in_p}. {His} name was {N}.",
]
OPEN = [
    "Once upon a time, there was {aK} named {N}.",
    "Once upon a time, there lived {aK} named {N}.",
    "There once was {aK} called {N}.",
    "{N} was {aK} who lived in [a small house|a cozy little home|a house with a red roof].",
    "Once there was {aK}. {His} name was {N}.",
    "This is the story of {aK} named {N}.",
]
HABITS = [
    "{He} liked to [watch the clouds|take long walks|look at the stars|sing little songs].",
    "Every morning {he} [drank warm milk|ate an apple|looked out of the window] and [hummed a song|thought about the day].",
    "{He} had [a warm bed|a blue door|a little garden] and [many questions|a big imagination].",
    "{He} lived with [{his} grandmother|{his} family|{his} old grandfather].",
]
OUT_AT_PLACE = [
    "One [day|morning|afternoon|evening], {N} was [walking|playing|resting|looking around] {in_p}.",
    "One [sunny|windy|quiet|cold|warm|bright] [day|morning|afternoon], {N} was {in_p}.",
    "It was a [sunny|windy|quiet|cold|warm|gray] [day|morning], and {N} was [walking|playing|alone] {in_p}.",
]
OUT = [
    "One [day|morning|afternoon], {N} was [out for a walk|on {his} way home|playing outside|looking for something to do].",
    "One [sunny|windy|quiet|cold|warm|bright] [day|morning], {N} [went out to play|set off early|went for a long walk].",
]

# --- what a found thing is good for, by its class -------------------------------------------------

OWNER_COMES = [
    "Just then, {aF} came [by|down the path|around the corner], looking [worried|very sad]. \"[Have you seen my {T}|Did anyone find a {T}]?\" asked {F}. \"[I lost it this morning|I cannot find it anywhere].\" {N} wanted to keep it, but {he} knew what was right. \"Here it is,\" {he} said. {F} [hugged {him}|jumped for joy|thanked {him} again and again].",
    "\"Somebody must miss it,\" {N} thought. {He} [asked everyone {he} met|knocked on every door]. At last {he} met {aF}, who was crying [on a bench|under a tree]. \"[That is my {T}|You found my {T}]!\" cried {F}. \"It belonged to my [grandmother|mother|father].\" {N} gave it back at once, and {F} [baked {him} a cake|smiled for the first time that day|became {his} best friend].",
    "{N} showed the {T} to {aF}. \"[Whose is it|Where does it come from]?\" asked {F}. They [asked|looked] all over town. In the end they learned that the {T} belonged to [an old woman|the old teacher|a poor family] at the end of the road. When they brought it back, they each got [a warm pancake|a slice of cake|a silver coin].",
]
USES = {
    "opener": [
        "{He} looked around and saw a [small green door|rusty gate|little wooden door] [in the wall|between two trees]. {N} put the {T} in the lock and turned it. Click! On the other side was [a secret garden full of flowers|a room full of old toys|a garden with a silver fountain].",
        "Just then, {aF} came by, looking [worried|sad]. \"I have lost the {T} to my house and I cannot get in,\" said {F}. \"Is this it?\" asked {N}. {F} jumped for joy. The {T} fit the lock, and soon they were [drinking tea|eating soup] together by the fire.",
        "{N} tried the {T} in every lock {he} knew. It did not fit the door of the [barn|mill]. It did not fit the door of the [school|bakery]. At last it fit an old chest [under the stairs|in the cellar]. Inside lay [a letter from {his} grandmother|a pile of gold coins|a beautiful music box].",
        "\"What does it open?\" {N} asked {aF}. {F} thought for a while. \"There is an old chest [in my attic|under my bed] that nobody can open,\" said {F}. They ran there together. The {T} turned, the lid went up, and inside they found [a treasure map|a big bag of candy|an old book of stories].",
    ],
    "toy": [
        "At first {N} played with the {T} alone. Then {aF} stopped to watch. \"May I play too?\" asked {F}. {N} [smiled and nodded|thought for a moment and said yes]. They played until [the sun went down|it was time for supper], and the {T} was twice as much fun with two.",
        "{N} played with the {T} [all morning|until noon]. It was the best toy in the world. But under it was a little card with a name: {F}. {N} took the {T} to {F}, {aFk} who lived nearby. \"You are honest,\" said {F}. \"Come and play with me every day!\"",
    ],
    "clothes": [
        "{N} tried the {T} on. It was [a bit too big|soft and warm|just the right size]. Then {he} saw {aF} who was shivering in the cold wind. \"You need it more than I do,\" said {N}, and gave {fhim} the {T}. \"Now I am warm,\" said {F}. \"Thank you, my friend!\"",
        "{N} put on the {T} and looked at {himself} in [a puddle|the water]. \"I look wonderful!\" {he} said. All day {he} walked around with the {T}, and everyone [smiled at {him}|said hello]. When the cold wind came in the evening, {he} was the only one who was warm.",
    ],
    "light": [
        "In the evening it grew very dark. {N} lit the {T}, and [warm|golden] light filled the air. Soon {he} heard a small voice. \"Help! I cannot find my way home,\" said {aF}. {N} held the {T} high and led {fhim} home. \"You saved me,\" said {F}.",
        "{N} took the {T} home and lit it. That night a storm came, and all the houses were dark. Only the window of {N} was bright. One by one, the neighbors came in, and they told stories around the {T} until morning.",
    ],
    "map": [
        "There was a red cross on the {T}. {N} followed the path, over [the bridge|the stream] and [past the old mill|around the hill]. Under the third tree {he} began to dig. There was [a chest full of gold|a box of old toys|a jar of golden honey]! {N} [danced for joy|could not believe it].",
        "{N} showed the {T} to {aF}. \"This path leads to a treasure!\" said {F}. They walked for hours and crossed a [deep valley|cold stream]. At the end of the path they found a [hidden waterfall|garden of wild strawberries]. \"This is the best treasure of all,\" said {N}.",
    ],
    "letter": [
        "On the front of the {T} was a name: {F}. {N} knew {F}, {aFk} who lived [on the other side of the bridge|at the end of the road]. {N} ran all the way there. {F} read the {T} and began to smile. \"My sister is coming home!\" said {F}. \"Thank you for bringing it to me.\"",
        "{N} opened the {T} with care. It said: \"[Follow the stream and you will find a friend|Look behind the old tree|Whoever reads this is invited to a party].\" {N} did just that, and there stood {aF}. \"You found my {T}!\" said {F}. \"I was hoping that someone would come and play.\"",
    ],
    "book": [
        "{N} opened the {T}. It was full of [stories about dragons and kings|pictures of faraway lands|old songs]. {He} read until [the sun went down|the stars came out]. The next day {he} read it aloud to {aF}. \"Please read one more page,\" said {F}, and {N} was glad to do it.",
        "On the first page of the {T} there was a name: {F}. {F} was {aFk} who lived nearby. {N} brought the {T} back. \"I have looked for it all week!\" said {F}. \"Sit down, and we will read it together.\"",
    ],
    "seed": [
        "{N} planted the {T} in soft ground and gave it water every day. At first [nothing happened|there was only mud]. \"Be patient,\" said {aF}. After many days a green shoot came up. It grew and grew until it was [a tall tree full of apples|the biggest sunflower in the land]. {N} and {F} sat in its shade all summer.",
        "{N} took the {T} home and put it in a pot. Every morning {he} watered it and sang to it. In spring a small plant came up, and in summer it had [red flowers|sweet berries]. {N} gave the first one to {his} grandmother.",
    ],
    "food": [
        "{N} was hungry, and the {T} smelled [sweet|wonderful]. {He} was about to take a bite when {he} saw {aF}. \"I have not eaten all day,\" {F} said quietly. {N} broke the {T} in two. They sat down side by side and ate, and it tasted better than anything.",
        "\"It looks delicious,\" {he} said. But whose {T} was it? {N} looked around and saw {aF} searching in a basket. \"I dropped a {T} on the way,\" said {F}. {N} gave it back, and {F} laughed. \"Let us eat it together!\"",
    ],
    "tool": [
        "\"This may be useful,\" {N} said, and took the {T} along. Soon {he} heard a cry. It was {aF}, who had fallen into a [hole|ditch]. {N} held out the {T}. \"Hold on tight!\" {he} called, and pulled with all {his} strength. {F} came out, dirty but safe.",
        "{N} carried the {T} home. On the way {he} met {aF}, whose [roof was broken|garden was full of weeds]. \"If only I had a {T},\" said {F}. \"I have one!\" said {N}. They worked together all afternoon, and by evening everything was [mended|done].",
    ],
    "music": [
        "{N} tried the {T}. The first sound was [funny|terrible], but the second was better. {He} played all day, and soon there was a tune. {aF} heard it from far away and came to listen. \"Play it again!\" said {F}, and began to dance.",
        "{N} played a soft tune on the {T}. One by one the birds stopped singing to listen. Then {aF} stepped out from behind a tree. \"That is my {T}, but you play it better than I do,\" said {F}. \"Will you teach me?\" After that they made music together every evening.",
    ],
    "care": [
        "The {T} was small and alone, and it looked cold. {N} [covered it with soft leaves|kept it safe from the wind] and stayed beside it all night. In the morning {aF} came along. \"You have a good heart,\" said {F}. Together they carried the {T} to a safe place in the sun.",
        "\"I must be careful with it,\" {N} whispered. {He} did not touch the {T} but sat down quietly to watch. Soon {aF} sat down too. \"It is the most beautiful thing I have ever seen,\" said {F}. They came back every day to make sure that the {T} was safe.",
    ],
    "magic": [
        "When {N} touched the {T}, it began to [glow|hum softly]. \"I will give you one wish,\" said a tiny voice. {N} thought for a long time. {He} could wish for gold, but instead {he} said, \"I wish for a friend.\" There was a flash of light, and there stood {aF}. \"Hello,\" said {F}. \"Do you want to play?\"",
        "The {T} [sparkled in the light|felt warm and strange]. {N} showed it to {aF}. \"It is magic,\" whispered {F}. They held the {T} together and made a wish. The next morning [there was snow in the middle of summer|every tree was full of flowers|the whole village woke up laughing], and only the two of them knew why.",
    ],
    "rain": [
        "Soon dark clouds came and it began to rain. {N} opened the {T} and stayed dry. Then {he} saw {aF}, who was wet from head to toe. \"Come under my {T}!\" called {N}. They walked home together, and neither of them got wet.",
    ],
    "ride": [
        "{N} climbed in and looked around. \"Does it still work?\" {he} wondered. {aF} came closer. \"It only needs a little care,\" said {F}. They cleaned the {T} and mended it. In the afternoon they rode in it together, faster and faster, and laughed all the way.",
    ],
    "box": [
        "What was inside? {N} opened the {T} slowly. It was full of [old photographs|colorful buttons|sweet candy|letters]. At the bottom lay a card with a name: {F}. {F} was {aFk} who lived nearby. When {N} brought the {T} back, {F} told {him} the story of every single thing in it.",
        "The {T} was heavy. {N} pulled and pushed, but {he} could not lift it. \"Let me help you,\" said {aF}. Together they carried the {T} home and opened it. Inside they found [a pile of books|a set of tea cups|a warm blanket], and they shared it.",
    ],
    "flower": [
        "{N} smelled the {T}. It was sweet like honey. {He} wanted to pick it, but {aF} shook {fhis} head. \"If you leave it, everyone can enjoy it,\" said {F}. So {N} gave the {T} some water instead. A week later, there were ten of them.",
    ],
}
USES["treasure"] = OWNER_COMES + [
    "{N} could have kept the {T}, but {he} thought of the poor family next door. {He} traded it at the market for [bread, apples and milk|a big basket of food]. That evening everyone ate until they were full. \"You gave away your {T} for us,\" said {aF}. \"You are richer than a king.\"",
]
USES["dish"] = OWNER_COMES
USES["structure"] = [
    "The {T} was old, and nobody had used it for years. \"We could make it beautiful again,\" said {aF}. {N} and {F} cleaned it, mended it and painted it [blue|red|green]. When they were done, the whole village came to look at the {T}.",
    "\"Who made this?\" {N} asked. \"I did, when I was young,\" said {aF}, who was sitting nearby. \"I am too old to take care of the {T} now. Will you do it for me?\" {N} promised. {He} came back every day, and {F} told {him} stories.",
]
USES["plain"] = OWNER_COMES + [
    "{N} carried the {T} home and cleaned it until it shone. Then {he} put it [on the shelf|by the window]. Every evening {he} looked at the {T} and made up a new story about where it came from. {aF} came to listen, and {F} liked every one of them.",
    "{He} did not know what to do with it. \"Keep it,\" said {aF}. \"One day you will need a {T}.\" And {F} was right. The very next week, {N} used the {T} to [help a neighbor|mend the broken door|save a little bird], and everyone was glad that {he} had it.",
]
SHARED_USES = ("toy", "clothes", "music", "tool", "rain", "flower", "book")

# --- endings --------------------------------------------------------------------------------------

END_FRIEND = [
    "From that day on, {N} and {F} were best friends.",
    "{N} and {F} have been friends ever since.",
    "After that, they met every day, and neither of them was ever lonely again.",
    "That evening, {N} and {F} sat together and watched the [stars|sun go down].",
    "And so {N} learned that [a good friend is worth more than gold|kindness always comes back|everything is easier with a friend].",
    "They went home together, [tired but happy|laughing all the way].",
]
END_ALONE = [
    "That night, {N} went to bed with a big smile.",
    "{N} was [very happy|proud and happy] and told everyone about it.",
    "And {N} never forgot that day.",
    "From then on, {N} was [a little braver|a little wiser] every day.",
    "{N} went home [with a light heart|singing], and slept well that night.",
]
END_BEDTIME = [
    "Then the moon came up, and {N} [yawned|closed {his} eyes]. Soon {he} was fast asleep. Good night, {N}.",
    "That night the stars were bright. {N} lay down in {his} warm bed and slept until morning. Sweet dreams.",
]
THE_END = ["The end.", "And they all lived happily ever after."]

# --- plots: each returns the paragraphs after the opening -----------------------------------------

WONDER = [
    "\"[What a strange thing to find|How lucky I am|I wonder who left this here|What a lovely thing]!\" {he} said.",
    "{N} picked it up and looked at it [from all sides|for a long time].",
    "{His} heart beat fast. Where had it come from?",
    "\"[What is a {T} doing here|How did a {T} get here]?\" {he} wondered.",
]


def plot_find(t, rng, cls):
    """finds, discovers, sees"""
    seen = rng.choice([
        "{out} Suddenly {he} saw something [shiny|strange|odd] {spot}. It was {aT}!",
        "{out} {spotCap}, {he} found {aT}.",
        "{out} There, {spot}, lay {aT}.",
        "{out} {He} stopped to rest, and there, {spot}, {he} saw {aT}.",
    ])
    return [[seen, rng.choice(WONDER)], [rng.choice(USES[cls])]]


def plot_lose(t, rng, cls):
    """loses"""
    loved = rng.choice([
        "{N} had {aT} that {he} [loved very much|took everywhere]. It was a gift from {his} [grandmother|mother|best friend].",
        "The thing that {N} loved most was {his} {T}. {He} [never went out without it|looked at it every morning].",
        "For {his} birthday {N} had been given {aT}, and {he} was very proud of it.",
    ])
    lost = rng.choice([
        "{out} But when {he} [came home|sat down to rest], the {T} was gone!",
        "{out} Then [a strong wind came|{he} jumped over a puddle|{he} ran after a butterfly], and when {he} looked again, the {T} was gone.",
        "{out} {He} put the {T} down for a moment and [fell asleep|forgot all about it]. When {he} came back, it was not there.",
    ])
    sad = rng.choice([
        "{N} looked everywhere. It was not [under the bed|behind the door]. It was not [in the garden|on the path]. {He} began to cry.",
        "\"Oh no! Where is my {T}?\" cried {N}. {He} looked [left and right|up and down], but {he} could not find it.",
    ])
    help_ = rng.choice([
        "\"Why are you crying?\" asked {aF}. \"I have lost my {T},\" said {N}. \"Do not worry,\" said {F}. \"[Let us look for it together|Where did you have it last|We will find it].\" So they walked back the way {N} had come.",
        "{aF} heard {him}. \"I will help you,\" said {F}. \"[Four eyes see more than two|Two can look better than one].\" They searched [all afternoon|high and low].",
    ])
    found = rng.choice([
        "And there, {spot}, was the {T}! \"You found it!\" {N} [shouted|cheered|laughed].",
        "At last {F} pointed. \"Look there!\" The {T} was {spot}. {N} [hugged {F}|danced for joy].",
        "Then they heard a little noise. A bird was sitting on the {T}, {spot}! When the bird flew away, {N} had {his} {T} back.",
    ])
    lesson = rng.choice([
        "\"Thank you,\" said {N}. \"I will take better care of my {T} now.\"",
        "After that, {N} always [knew where the {T} was|kept the {T} close].", ""])
    return [[loved, lost, sad], [help_, found, lesson]]


BUILD_WHY = {
    "bridge": "cross the cold stream", "boat": "sail across the lake", "raft": "float down the river",
    "ship": "sail across the sea", "house": "have a warm place for the winter",
    "hut": "have a dry place when it rained", "tower": "see the whole land from above",
    "castle": "play kings and queens", "cart": "bring apples to the market", "sled": "ride down the white hill",
    "wagon": "carry wood home", "bench": "sit in the sun", "swing": "fly up to the clouds",
    "fence": "keep the cabbages safe", "table": "eat outside with friends", "chair": "sit by the fire",
    "snowman": "have someone to talk to in the snow", "tent": "sleep under the stars",
    "wall": "stop the cold wind", "treehouse": "live among the birds", "windmill": "make flour for bread",
    "rocket": "fly to the moon", "machine": "peel apples without work", "kite": "touch the clouds",
    "robot": "have someone to play chess with",
}


def plot_build(t, rng, cls):
    """builds, makes"""
    t["why"] = BUILD_WHY.get(t["T"], "show it to everyone")
    t["parts"] = rng.choice({"snowman": ["snow and a carrot"], "kite": ["paper and string"],
                             "tent": ["cloth and sticks"], "castle": ["sand and shells", "stones"],
                             "wall": ["stones"]}.get(t["T"], [
                                 "wood and nails", "old boards and rope", "branches and rope"]))
    why = rng.choice([
        "{N} wanted to {why}. \"I will build {aT}!\" {he} said one [day|morning].",
        "One [day|morning], {N} had an idea. \"If I build {aT}, I can {why},\" {he} said.",
    ])
    begin = rng.choice([
        "{He} looked for {parts} {in_p} and worked [all morning|for three days].",
        "{In_p}, {he} found {parts}. Then {he} began to work.",
    ])
    fail = rng.choice([
        "But the {T} [fell over|broke in the middle|fell apart] with a loud crash. \"[I will never finish it|It is too hard],\" sighed {N}.",
        "The first {T} was [crooked|too small], and the wind knocked it down. {N} sat down and [cried|wanted to give up].",
    ])
    help_ = rng.choice([
        "Then {aF} came by. \"May I help you?\" asked {F}. \"[You hold it and I will tie it|Make it wider at the bottom|We only need to try once more].\" They worked side by side until [the sun went down|evening].",
        "\"Do not give up,\" said {aF}, who had been watching. \"[Try again, a little slower|I know a better way].\" {N} and {F} started again from the beginning.",
    ])
    done = rng.choice([
        "At last the {T} was finished. It was [strong and beautiful|the best {T} in the land]. Now {N} could {why}.",
        "And this time the {T} stood [firm|strong and straight]! {N} could {why}, just as {he} had dreamed.",
    ])
    return [[why, begin, fail], [help_, done]]


NEEDS = [
    ("was stuck in the [mud|snow|bushes]", "took a long branch and pulled until {F} was free"),
    ("had lost {fhis} way", "showed {F} the way home, step by step"),
    ("had hurt {fhis} foot", "tied a soft cloth around {fhis} foot and carried {F} home"),
    ("could not reach the apples on the tree", "climbed up and threw the apples down one by one"),
    ("was too tired to carry a heavy bag", "took the heavy bag and walked beside {F} all the way"),
    ("was cold and hungry", "made a fire and a pot of warm soup"),
    ("had fallen into the water", "held out a long stick and pulled {F} to the shore"),
    ("was sitting in the rain with no roof", "built a little roof of leaves"),
    ("had to bring in the hay before the storm", "worked all day until the last of the hay was dry and safe"),
]


def plot_help(t, rng, cls):
    """helps, saves: the other hero is the friend"""
    need, deed = rng.choice(NEEDS)
    return [[
        "{out} " + rng.choice(["Then {he} heard a [small|sad] voice. \"Help me, please!\"",
                               "Suddenly {he} heard someone [cry|call for help]."]),
        rng.choice(["It was {aF2} named {F}. {F} " + need + ".",
                    "{spotCap}, {he} saw {aF2}. {Fhis} name was {F}, and {fhe} " + need + "."])],
        [rng.choice(["\"[Do not be afraid|Do not worry], I will help you,\" said {N}.",
                     "{N} did not think twice. \"I am coming!\" {he} called.",
                     "{N} was in a hurry, but {he} stopped. \"Let me help you,\" {he} said."]),
         "[Quickly {he}|So {he}|Then {N}] " + deed + ".",
         rng.choice(["\"Thank you,\" said {F}. \"[You saved me|I will never forget this|You are a true friend].\"",
                     "{F} was safe at last. \"How can I thank you?\" asked {fhe}. \"[Be my friend|There is no need],\" said {N}."]),
         rng.choice(["The next [week|day], {N} [was ill|lost {his} way|needed help], and it was {F} who came to help {him}.",
                     "Then they [shared some bread|drank tea together|had supper by the fire].", ""])]]


def plot_meet(t, rng, cls):
    """meets, makes friends with"""
    return [[
        "{out} " + rng.choice(["There {he} met {aF2} named {F}.",
                               "{spotCap} sat {aF2}. \"Hello, I am {F},\" said the {fk}.",
                               "Suddenly {aF2} came around the corner. {Fhis} name was {F}."]),
        rng.choice(["At first {N} [did not know what to say|was a little afraid|hid behind a tree].",
                    "{N} had never [met|seen] a {fk} before.",
                    "\"[Where do you come from|What are you doing here]?\" asked {N}."])],
        [rng.choice([
            "\"I am new here,\" said {F}. \"I do not know anyone.\" \"Now you know me,\" said {N}. {He} showed {F} [the best place to see the stars|where the sweetest berries grow|the way to the stream].",
            "\"Do you want to play a game?\" asked {F}. They [raced to the big tree|played hide and seek|looked for shapes in the clouds]. {N} won once, and {F} won once.",
            "They were very different. {N} liked [the sun|sweet things|loud songs], and {F} liked [the rain|sour things|silence]. But both of them loved stories, so they sat down and told each other [one after another|the best ones they knew].",
        ]), rng.choice(["\"Will you come again tomorrow?\" asked {F}. \"Of course,\" said {N}.",
                        "When evening came, they did not want to go home.", ""])]]


FACE = {
    "night": ("had to sleep with a light on every night", "the lamp went out", "there was nothing there but a friendly owl"),
    "storm": ("hid under the bed when the sky turned gray", "a great storm came over the hills", "the storm was only rain and wind, and soon it passed"),
    "water": ("never went near the pond", "a little duck was caught in the reeds", "the water only tickled"),
    "height": ("never climbed anything higher than a chair", "a kitten was stuck on the roof", "the view from up there was wonderful"),
    "noise": ("covered {his} ears all day", "the big drums of the summer parade came down the road", "the drums made everyone want to dance"),
    "animal": ("ran away at the smallest sound", "something moved in the grass", "it was small and just as afraid as {he} was"),
    "forest": ("always walked the long way around the trees", "a lamb was lost among the trees", "the forest was full of birds and soft green light"),
    "stranger": ("hid when someone knocked at the door", "an old traveler knocked at the door in the rain", "the traveler was kind and told wonderful stories"),
    "alone": ("followed {his} mother everywhere", "everyone had to go to the market", "the house was quiet and peaceful"),
}


def plot_afraid(t, rng, cls):
    """is afraid of"""
    t["habit"], t["event"], t["truth"] = (s.format_map(t) for s in FACE[cls])
    return [[
        rng.choice(["{N} was afraid of {T}. {He} {habit}.",
                    "There was one thing that {N} feared: {T}. {He} {habit}.",
                    "{N} had a secret. {He} was afraid of {T}, and {he} {habit}."]),
        rng.choice(["\"[Everyone is afraid of something|You are not alone],\" said {aF}. \"I was afraid of {T} once, too.\" \"What did you do?\" asked {N}. \"[I counted to ten and took one small step|I held a friend's hand],\" said {F}.",
                    "{His} friend {F}, {aFk}, wanted to help. \"[We will face it together|Take a deep breath and look closely],\" said {F}."])],
        [rng.choice(["Then, one [evening|night|day], {event}.", "The next [evening|day], {event}."]),
         rng.choice(["{N} [shook|trembled] from head to toe, but {he} [counted to ten|took a deep breath|thought of {F}] and took one small step, and then another.",
                     "\"I can do this,\" whispered {N}. {His} knees shook, but {he} did not run away."]),
         "And [what a surprise|look]: {truth}!",
         rng.choice(["After that, {N} was not afraid of {T} anymore.",
                     "\"I did it!\" {N} said to {F}. From then on, {he} was not so afraid of {T}."])]]


def plot_want(t, rng, cls):
    """wants, wishes for, dreams of, looks for a thing"""
    want = rng.choice([
        "{N} wanted {aT} more than anything. {He} [thought about it all day|dreamed about it every night].",
        "There was only one thing that {N} wanted: {aT}.",
        "\"I wish I had {aT},\" {N} said every [morning|evening].",
    ])
    seek = rng.choice([
        "{out} {He} asked everyone {he} met. \"Do you have a {T} for me?\" But the answer was always no.",
        "{He} [saved every coin|worked hard all summer], but it was not enough. {out}",
        "{out} {He} looked [high and low|everywhere], but there was no {T} to be found.",
    ])
    turn = rng.choice([
        "Then {he} saw {aF}, who was trying to [carry a heavy sack|catch a runaway goose|mend a broken cart]. {N} stopped to help, and they worked until evening. \"You are kind,\" said {F}. \"I have no gold, but I want to give you this.\" It was {aT}! {N} [could not believe {his} eyes|was so happy that {he} cried].",
        "\"Why do you want one so much?\" asked {aF}. {N} thought about it. \"[To share it with a friend|So that I am not bored],\" {he} said. {F} smiled. \"Then come with me.\" {spotCap}, there it was: {aT}. \"It is yours,\" said {F}, \"if we can enjoy it together.\"",
        "One day {aF} told {him}, \"If you cannot find a {T}, make one!\" So they [gathered everything they needed|worked every evening], and {F} helped where it was hard. When it was done, {N} had {aT}, and it was better than any other because they had made it themselves.",
    ])
    if t["T"] in ("star", "friend") or cls in ("care", "seed", "food"):
        turn = re.sub(r"If you cannot.*", "", turn) if "make one" not in turn else (
            "{spotCap}, {he} met {aF}. \"You may have mine,\" said {F}. \"I have had it for a long time, and I want you to be happy.\" And {F} gave {him} {aT}. {N} [hugged {fhim}|did not know what to say].")
    after = rng.choice(["Every day {he} [took good care of the {T}|was thankful for the {T}].",
                        "And whenever {N} looked at the {T}, {he} thought of {F}.", ""])
    return [[want, seek], [turn, after]]


def plot_learn(t, rng, cls):
    """learns to, wants to"""
    t["advice"], t["deed"] = SKILLS[t["T"]]
    return [[
        rng.choice(["{N} wanted to learn to {T}. All the others could do it, but {he} could not.",
                    "More than anything, {N} wanted to {T}.",
                    "\"I will never learn to {T},\" said {N}. {He} had tried [three times|many times], and every time it went wrong."]),
        rng.choice(["{out} There {he} met {aF}. \"I can teach you to {T},\" said {F}. \"{advice}.\"",
                    "One day {aF} saw {him} try. \"{advice},\" said {F}. \"[I will show you|That is the secret].\""])],
        [rng.choice(["On the first day, {N} [failed again and again|made every mistake]. On the second day, it went a little better. {N} tried and tried, and {F} never laughed at {him}.",
                     "It was hard. {N} wanted to give up, but {F} said, \"[Try once more|Everyone starts small].\" So {he} practiced every [day|morning]."]),
         rng.choice(["And then, one [bright|fine] morning, it worked! {N} {deed}.",
                     "At the end of the [week|summer], {N} {deed}. [Everyone cheered|Everybody clapped]."]),
         rng.choice(["\"I can {T}!\" {he} [shouted|cried|laughed]. \"I knew you could,\" said {F}.",
                     "{N} had learned to {T}, and {he} had learned to be patient, too."])]]


def plot_share(t, rng, cls):
    """shares"""
    return [[
        rng.choice(["One [day|morning], {N} had {aT}. It was [all {his} own|the last one].",
                    "{N} had [waited all week for|been given] {aT}. \"It is all for me,\" {he} said.",]),
        rng.choice(["{He} sat down {in_p} to enjoy it.", "{He} took the {T} and went for a walk {in_p}."]),
        rng.choice(["Then {aF} came by. {F} looked at the {T} but did not say a word.",
                    "\"What a nice {T},\" said {aF}. \"I have never had one.\""])],
        [rng.choice(["{N} wanted to keep the {T} for {himself}. But then {he} saw the sad eyes of {F}, and {his} heart grew soft.",
                     "{N} looked at the {T} and then at {F}. It was not easy, but {he} made up {his} mind."]),
         rng.choice(["\"Come, let us share it,\" {he} said.", "\"There is enough for two,\" said {N}. \"Sit down with me.\""]),
         ("So {N} cut the {T} in two, and they ate it [slowly|bite by bite] in the sun." if cls == "food" else
          "So they took turns with the {T}, first {N}, then {F}, and they laughed the whole afternoon."),
         rng.choice(["The next day, {F} came back with [a basket of berries|a jar of honey|a warm bread] and shared it with {N}.",
                     "\"It is better when you share it,\" said {N}, and {he} meant it."])]]


def plot_break(t, rng, cls):
    """breaks"""
    return [[
        rng.choice(["{out} {He} [ran too fast|danced around|threw a ball], and crash! The {T} of {aF} fell down and broke.",
                    "One day {N} was visiting {aF}. {He} [turned around too quickly|was not careful], and crash! {aTc} fell down and broke."]),
        rng.choice(["Nobody had seen it. {N} could run away, but {his} stomach hurt when {he} thought of it.",
                    "{N} hid the pieces {spot}. But all night {he} could not sleep."])],
        [rng.choice(["In the morning, {he} went to {F}. \"I broke the {T},\" {he} said. \"I am so sorry.\"",
                     "At last {he} told the truth. \"It was me,\" said {N}. \"I broke your {T}.\""]),
         rng.choice(["{F} was quiet for a moment. Then {fhe} smiled. \"[Thank you for telling me|It takes courage to tell the truth].\"",
                     "\"I was sad about the {T},\" said {F}, \"but I am glad that you told me.\""]),
         rng.choice(["They [took some glue|found some glue and string] and mended the {T} together. It was not perfect, but they liked it even more.",
                     "Together they put the {T} back together, piece by piece, until it was [almost like new|as good as before]."])]]


def plot_give(t, rng, cls):
    """gives a thing to the friend"""
    return [[
        rng.choice(["{N} had {aT} that {he} loved. One day {he} heard that {F}, {aFk}, was [ill|sad|all alone].",
                    "It was the birthday of {F}, {aFk} who lived nearby. {N} had no money, but {he} had {aT}.",]),
        rng.choice(["\"What can I give {fhim}?\" thought {N}. Then {he} looked at the {T}. \"It is the best thing I have,\" {he} said.",
                    "{N} thought for a long time. It was hard to part with the {T}, but {he} wanted to see {F} smile."])],
        [rng.choice(["{He} wrapped the {T} in [red paper|a big leaf] and walked [over the hill|through the rain] to the house of {F}.",
                     "{out} {He} carried the {T} under {his} arm, and soon {he} stood at the door of {F}."]),
         rng.choice(["\"This is for you,\" said {N}, and gave {fhim} the {T}.", "\"I brought you my {T},\" said {N}."]),
         rng.choice(["{F} could not speak. Then {fhe} [laughed and cried at the same time|hugged {N} for a long time]. \"Nobody ever gave me such a gift.\"",
                     "\"For me?\" asked {F}. {Fhis} eyes were [shining|bright]. \"You are the best friend in the world.\""])]]


def plot_steal(t, rng, cls):
    """steals, takes"""
    return [[
        rng.choice(["{out} {He} saw {aT} that belonged to {aF}. Nobody was looking, so {N} took it and ran away.",
                    "{aFc} had {aT}, and {N} wanted it badly. One night {he} [crept in|tiptoed inside] and took the {T}."]),
        rng.choice(["At home {he} hid the {T} under {his} bed. But {he} could not enjoy it.",
                    "But the {T} did not make {him} happy. Every time {he} looked at it, {he} felt [worse|sad]."])],
        [rng.choice(["The next day, {he} saw {F} crying. \"Someone took my {T},\" said {F}. {N} felt [very bad|a lump in {his} throat].",
                     "\"Have you seen my {T}?\" {F} asked everyone. {N} looked at {his} feet."]),
         rng.choice(["\"I took it,\" {he} said at last. \"I am sorry. Here is your {T}.\"",
                     "So {N} ran home, got the {T} and gave it back. \"I was wrong,\" {he} said. \"Please forgive me.\""]),
         rng.choice(["{F} [thought for a while|was angry at first], but then {fhe} nodded. \"Next time, just ask me.\"",
                     "\"I forgive you,\" said {F}. \"We can enjoy it together.\""]),
         "{N} never took anything again without asking."]]


def plot_hide(t, rng, cls):
    """hides"""
    return [[
        rng.choice(["{N} had {aT}, and {he} was afraid that someone would take it. So {he} hid it {spot} {in_p}.",
                    "One day {N} took {aT} and hid it {spot} {in_p}. \"Nobody will find my {T} here,\" {he} said."]),
        rng.choice(["But the next morning, {he} [could not remember the place|had forgotten where it was]!",
                    "A week later {he} wanted it back, but {he} had forgotten the place."])],
        [rng.choice(["{N} [dug here and there|turned over every stone]. \"What are you looking for?\" asked {aF}. \"My {T},\" said {N}. \"I hid it too well.\"",
                     "{N} searched until {he} was tired. Then {aF} came by. \"Tell me everything you did that day,\" said {F}."]),
         rng.choice(["{F} had a good nose for secrets, and after an hour they found the {T}, just where {N} had put it.",
                     "Step by step they walked the same way again, and there it was: the {T}!"]),
         rng.choice(["\"A {T} is no fun when it is hidden,\" said {F}. {N} laughed, because {F} was right.",
                     "\"From now on I will not hide it,\" said {N}. \"I will show it to my friends.\""])]]


def plot_lost(t, rng, cls):
    """gets lost in a place, visits a place"""
    return [[
        rng.choice(["One day {N} went for a walk {in_p}. {He} followed a [butterfly|little bird|strange sound] and did not look where {he} was going.",
                    "One [afternoon|morning], {N} was playing {in_p} and went a little too far."]),
        rng.choice(["Soon everything looked the same. {N} was lost!",
                    "When {he} looked around, {he} did not know the way home anymore."]),
        rng.choice(["{He} called, but nobody answered. It grew [dark|cold].",
                    "\"What shall I do?\" {he} thought. {He} sat down {spot} and tried not to cry."])],
        [rng.choice(["Then {he} saw {aF}. \"I am lost,\" said {N}. \"I know the {p} well,\" said {F}. \"[Follow me|Hold my hand].\"",
                     "\"Are you lost?\" asked a friendly voice. It was {aF}. \"[Look at the stars|Listen to the stream],\" said {F}. \"They will show us the way.\""]),
         rng.choice(["They walked past [the old oak|a big rock] and over [a small bridge|a stream], and at last {N} saw the lights of home.",
                     "Step by step, they found the way back, and {N} could see {his} house."]),
         rng.choice(["{His} mother [ran to meet them|hugged them both], and there was warm soup for everyone.",
                     "\"Thank you, {F},\" said {N}. \"I was never so glad to see my own door.\""])]]


def plot_trip(t, rng, cls):
    """goes to a place"""
    return [[
        rng.choice(["{N} had never been to the {p} before. One day {he} packed [some bread and an apple|a small bag] and set off.",
                    "One [sunny|bright] morning, {N} decided to spend the whole day {in_p}."]),
        rng.choice(["Everything was new. {He} looked [left and right|at every little thing] and smelled the air.",
                    "The {p} was even more beautiful than {he} had thought."])],
        [rng.choice(["{spotCap}, {he} met {aF}. \"Is this your first time here?\" asked {F}. \"Then I will show you the best place of all.\"",
                     "There {he} met {aF}, who was sitting all alone. \"Would you like some of my bread?\" asked {N}. {F} was glad to have company."]),
         rng.choice(["They [laughed and played|talked and sang] until the sun was low.",
                     "Together they [watched the sky turn red|collected little treasures|listened to the wind]."]),
         rng.choice(["\"Come back soon,\" said {F}. And {N} did, every [week|Sunday].",
                     "When {N} came home, {he} told everyone about the {p}."])]]


def plot_sleep(t, rng, cls):
    """cannot sleep"""
    return [[
        rng.choice(["One night, {N} could not sleep. {He} turned left and {he} turned right, but {his} eyes stayed open.",
                    "It was late, and everyone was asleep, only {N} was not."]),
        rng.choice(["{He} drank some warm milk. It did not help. {He} counted to one hundred. It did not help.",
                    "{He} tried one pillow, then two pillows, then no pillow. Nothing helped."])],
        [rng.choice(["\"Why are you awake?\" asked {aF} at the window. \"My head is full of thoughts,\" said {N}. \"Then tell me about them,\" said {F}.",
                     "{He} went to {his} friend {F}, {aFk}. \"Lie down and listen to the rain,\" said {F} softly."]),
         rng.choice(["{N} talked about the day, about the good things and the bad things, and {his} eyes grew heavy.",
                     "{F} hummed an old song, slower and slower."]),
         rng.choice(["Before the moon was high, {N} was fast asleep.",
                     "Soon {N} was dreaming of [soft clouds|a boat on a quiet lake]."])]]


def plot_buy(t, rng, cls):
    """buys a thing"""
    return [[
        rng.choice(["{N} had saved {his} coins for a whole [year|summer]. Now {he} wanted to buy {aT}.",
                    "One [day|morning], {N} went out with [three|five|seven] coins to buy {aT}."]),
        rng.choice(["{He} went to the shop {in_p}. \"Good morning, I would like to buy a {T},\" {he} said.",
                    "There was a little shop {in_p}, and {N} [opened the door|stepped in] with a beating heart."])],
        [rng.choice(["The shop belonged to {aF}. \"This is the last {T},\" said {F}, \"and it costs one coin more than you have.\" {N} looked sad. \"I can sweep the floor,\" {he} said. {F} [laughed|smiled] and gave {him} a broom.",
                     "\"I have just the right {T} for you,\" said {aF}, who owned the shop. {N} counted {his} coins, but one had rolled away! {F} helped {him} search, and they found it under the [shelf|door].",
                     ]),
         rng.choice(["In the end, {N} walked home with the {T} under {his} arm. It was the best {T} in the world, because {he} had worked for it.",
                     "So {N} bought the {T}. {He} carried it home very carefully and showed it to everyone."])]]


def plot_plant(t, rng, cls):
    """plants a thing"""
    return [[
        rng.choice(["{out} {He} had {aT} in {his} pocket. \"I will plant it here,\" {he} said.",
                    "One spring morning, {N} planted {aT} {in_p}."]),
        rng.choice(["{He} [dug a little hole|made a hole with {his} own two hands], put the {T} in, and gave it some water.",
                    "{He} covered the {T} with soft earth and sang it a song."])],
        [rng.choice(["Every day {he} came back to look, but nothing happened. \"[It is no use|It will never grow],\" sighed {N}. \"[Give it time|Good things grow slowly],\" said {aF}.",
                     "For a long time there was only mud. {aFc} laughed at first, but then {F} began to bring water, too."]),
         rng.choice(["And one morning there was a green leaf! It grew taller and taller, and by summer it was [as high as the roof|full of flowers].",
                     "Then the warm rain came. Out of the ground came a small green shoot, and soon it was a beautiful tree."]),
         rng.choice(["{N} and {F} sat in its shade and shared the first sweet fruit.",
                     "\"All this came from one {T},\" said {N}."])]]


def plot_chase(t, rng, cls):
    """chases, follows: the other hero is the friend"""
    return [[
        rng.choice(["{out} Suddenly {aF2} ran past. \"[Stop|Wait for me]!\" cried {N}, and ran after the {fk}.",
                    "{out} {spotCap}, {he} saw {aF2}. When {N} came closer, the {fk} ran away."]),
        rng.choice(["They ran [over the hill|through the bushes], [around the pond|under the fence] and back again.",
                    "The {fk} was fast, but {N} did not give up. On and on they ran."])],
        [rng.choice(["At last they were both so tired that they had to sit down. \"Why do you run after me?\" asked the {fk}. \"Why do you run away?\" asked {N}. Then they both began to laugh.",
                     "Then the {fk} stopped. \"Will you hurt me?\" {fhe} asked. \"No,\" said {N}. \"I only wanted to play with you.\""]),
         "\"My name is {F},\" said the {fk}.",
         rng.choice(["They shared some [berries|bread] and drank cold water from the stream.",
                     "After that they played catch every day, and sometimes {N} was the faster one."])]]
