"""The words the stories are made of: heroes, names, things, places, traits.

Purpose: data alone, no grammar. `plots.py` says what can happen to these words, `corpus.py` makes
conversations of it. A thing's class decides what it is good for (a key opens, a lantern lights), so
that causes and effects in a story fit its nouns.

Not here: sentences longer than a trait.
"""

# Heroes by the pronoun they may take: e = either, m = he, f = she. Common ones are drawn more often.
HEROES = {
    "e": """cat dog fox rabbit bear mouse owl duck frog hedgehog squirrel wolf lion tiger elephant
        monkey pig horse cow sheep goat hen turtle penguin crow sparrow raccoon badger deer otter
        beaver kitten puppy pony donkey camel giraffe zebra parrot swan goose lamb mole bat ant bee
        spider snail dragon robot giant child farmer baker sailor pirate knight teacher painter
        gardener doctor shepherd clown cook""".split(),
    "m": "boy king prince wizard fisherman man".split(),
    "f": "girl queen princess witch fairy woman".split(),
}

# Drawn seldom: they teach the model to take the hero's word from the prompt, whatever it is.
RARE_HEROES = """alien ghost troll elf unicorn dinosaur whale dolphin fish shark crab octopus seal walrus
    panda koala kangaroo hamster parakeet peacock eagle hawk pigeon raven rooster chicken chick duckling
    moth beetle ladybug cricket butterfly worm lizard snake crocodile hippo rhino leopard cheetah moose
    llama calf bull ox mule yak weasel ferret skunk porcupine chipmunk gnome goblin ogre mermaid
    snowman scarecrow astronaut scientist nurse soldier hunter miner tailor barber blacksmith
    carpenter builder driver pilot captain singer dancer artist writer student librarian postman
    policeman firefighter shopkeeper merchant thief detective inventor clockmaker shoemaker
    grandmother grandfather baby boxer spy ninja juggler magician cowboy emperor duke""".split()

NAMES = {
    "m": """Milo Max Leo Sam Tom Ben Finn Oscar Toby Jack Hugo Felix Otto Theo Gus Noah Louis Rufus
        Jasper Charlie Bruno Archie Henry Oliver Pip Barnaby Simon Walter Arthur Eddie""".split(),
    "f": """Luna Lily Mia Rosie Daisy Bella Molly Nora Ella Ruby Poppy Clara Hazel Ivy Maya Zoe Alice
        Emma Sophie Willow Tilly Olive Martha Penny Stella Dora Greta Anna Lucy Fern""".split(),
}

# name -> sentence pieces that show the trait; {N} hero, {he} and friends as in plots.py.
TRAITS = {
    "little": ["{He} was [so small that {he} could hide behind a flower pot|the smallest in the family]."],
    "small": ["{He} was small, but {he} had [big dreams|a big heart]."],
    "brave": ["{He} was not afraid of [anything|storms or shadows].", "Everyone said that {he} was very brave."],
    "clever": ["{He} [always had a good idea|could solve any riddle].", "{He} liked to think before {he} acted."],
    "kind": ["{He} was kind to everyone {he} met.", "{He} [always had a smile|had a kind word] for everyone."],
    "shy": ["{He} was so shy that {he} [hardly ever spoke|hid when visitors came]."],
    "curious": ["{He} [asked questions all day long|wanted to know how everything worked]."],
    "lazy": ["{He} [liked to sleep until noon|never did today what could wait until tomorrow]."],
    "old": ["{He} was old and [moved slowly|knew many things], but {his} eyes were bright."],
    "young": ["{He} was young and had [much to learn|never been far from home]."],
    "lonely": ["{He} had [no one to play with|no friends yet], and the days felt long."],
    "sad": ["{He} [had not smiled for a long time|often felt sad and did not know why]."],
    "happy": ["{He} [sang all day long|woke up every morning with a smile]."],
    "hungry": ["{He} was always hungry, even after [lunch|a big breakfast]."],
    "tired": ["{He} had [worked hard all week|not slept well] and felt tired."],
    "grumpy": ["{He} [grumbled about everything|was grumpy from morning until night]."],
    "funny": ["{He} [told jokes all day|could make anyone laugh]."],
    "gentle": ["{He} [never hurt even a fly|spoke in a soft voice]."],
    "proud": ["{He} was proud and [never asked for help|thought {he} knew everything]."],
    "greedy": ["{He} [wanted everything for {himself}|never had enough]."],
    "clumsy": ["{He} [tripped over {his} own feet|bumped into everything]."],
    "poor": ["{He} was poor and owned [very little|almost nothing]."],
    "rich": ["{He} was rich, but {he} [was often bored|had no one to talk to]."],
    "quiet": ["{He} was quiet and liked to [listen|watch the clouds]."],
    "silly": ["{He} did silly things, like [talking to stones|wearing a pot on {his} head]."],
    "wise": ["{He} was wise, and [many came to ask {him} questions|{he} listened before {he} spoke]."],
    "tiny": ["{He} was so tiny that {he} could [sleep in a shoe|sit on a leaf]."],
    "big": ["{He} was big and strong, but [very gentle|soft inside]."],
    "white": ["{He} was as white as [snow|milk]."],
    "black": ["{He} was as black as [night|coal]."],
    "gray": ["{He} was as gray as [a rainy morning|smoke]."],
    "brown": ["{He} was as brown as [a nut|bread]."],
    "naughty": ["{He} [played tricks on everyone|never listened to anyone]."],
    "busy": ["{He} [worked from morning until night|never had time to rest]."],
}

RARE_ADJS = """purple pink orange lazy fat thin tall short fast slow strong invisible flying dancing singing
    sleepy angry friendly polite noisy wild tame fluffy furry striped spotted royal hairy
    fierce honest lucky unlucky bored stubborn jealous playful gloomy mysterious talking giant""".split()

THING_ADJS = """golden shiny old red blue green small tiny big strange magic silver little pretty
    round yellow wooden beautiful dusty new white black secret""".split()
RARE_THING_ADJS = """purple pink orange heavy light soft warm cold glass iron rusty broken torn lost hidden
    glowing flying talking giant square flat long short striped crooked ancient precious clean
    dirty empty full plastic copper stone paper rainbow invisible""".split()

# class -> things. The class names a way of being useful: see USES in plots.py.
THINGS = {
    "opener": ["key"],
    "treasure": "coin ring crown pearl necklace gem medal diamond jewel bracelet purse".split(),
    "toy": "ball kite doll puppet balloon marble puzzle toy teddy".split(),
    "clothes": "hat scarf coat boot sock glove mitten cap cape shoe sweater blanket".split(),
    "light": "lamp lantern candle torch".split(),
    "map": ["map"],
    "letter": ["letter", "message", "note"],
    "book": ["book", "diary"],
    "seed": ["seed", "acorn", "bean"],
    "food": """cake pie apple pear cookie sandwich carrot pumpkin peach melon cherry banana muffin pancake
        pizza nut mushroom""".split(),
    "tool": "rope ladder shovel net bucket hammer".split(),
    "music": "flute bell guitar trumpet violin drum whistle piano harp".split(),
    "care": "egg nest butterfly caterpillar".split(),
    "magic": "wand mirror feather stone star bottle shell crystal leaf ".split(),
    "rain": ["umbrella"],
    "ride": "boat raft cart sled bicycle wagon ship".split(),
    "box": "box chest bag basket suitcase jar".split(),
    "dish": "cup vase plate bowl teapot clock watch window".split(),
    "structure": """bridge house hut tower castle bench swing fence table chair snowman tent wall well
        treehouse windmill rocket machine""".split(),
    "flower": "flower rose daisy tulip".split(),
    "plain": """sword shield phone camera radio pen pencil pillow spoon flag ticket helmet pocket-watch
        telescope compass wheel needle button ribbon brush broom paintbrush pot kettle rug
        statue painting bone stick card dice anchor nail pipe spring lock chain horn magnet
        rock pebble branch log brick tile plank bowtie tie belt vest mask costume crayon
        notebook newspaper stamp postcard photo poster trophy""".split(),
}

# What each plot may be about.
NOT_FINDABLE = set("window wall well windmill fence bridge tower castle snowman".split())
BUILDABLE = """boat raft cart sled wagon bridge house hut tower castle bench swing fence table chair
    snowman tent wall treehouse windmill rocket machine kite robot""".split()
BREAKABLE = "cup vase plate bowl teapot clock watch window lamp jar mirror chair fence toy violin".split()

# place -> (preposition, spots where things turn up)
PLACES = {
    "forest": ("in", ["under a tall tree", "behind a bush", "beside a mossy log"]),
    "garden": ("in", ["between the roses", "under a cabbage leaf", "behind the shed"]),
    "beach": ("on", ["in the warm sand", "behind a big rock", "near the waves"]),
    "river": ("by", ["between two stones", "in the tall reeds", "on the muddy bank"]),
    "hill": ("on", ["in the long grass", "under an old oak", "beside the path"]),
    "village": ("in", ["near the fountain", "behind the bakery", "under a bench"]),
    "castle": ("in", ["behind a heavy curtain", "at the bottom of the stairs", "under a stone bench"]),
    "farm": ("on", ["behind the barn", "in the hay", "near the gate"]),
    "mountain": ("on", ["in a crack in the rock", "beside a cold stream", "near the path"]),
    "cave": ("in", ["in a dark corner", "behind a pile of stones", "near the entrance"]),
    "market": ("at", ["under an empty stall", "between two barrels", "behind a cart"]),
    "town": ("in", ["beside the road", "near the clock tower", "on a doorstep"]),
    "city": ("in", ["on the pavement", "under a street lamp", "behind a shop"]),
    "lake": ("by", ["on the shore", "in the reeds", "under a willow"]),
    "sea": ("by", ["among the shells", "between the rocks", "on the wet sand"]),
    "island": ("on", ["under a palm tree", "on the shore", "beside a green pool"]),
    "desert": ("in", ["half buried in the sand", "beside a cactus", "in the shadow of a rock"]),
    "jungle": ("in", ["under a giant leaf", "between the roots of a tree", "behind a waterfall"]),
    "meadow": ("in", ["among the daisies", "in the tall grass", "beside a little stream"]),
    "school": ("at", ["under a desk", "in the corner of the yard", "behind the door"]),
    "library": ("in", ["between two old books", "under a chair", "on the top shelf"]),
    "kitchen": ("in", ["behind the stove", "under the table", "on the window sill"]),
    "attic": ("in", ["under an old sheet", "behind a wooden trunk", "in a dusty corner"]),
    "park": ("in", ["under a bench", "beside the pond", "near the swings"]),
    "field": ("in", ["between the rows of corn", "in the tall wheat", "near the fence"]),
    "valley": ("in", ["beside the stream", "under a flat stone", "in the clover"]),
    "barn": ("in", ["under the straw", "behind a barrel", "beside the old cart"]),
    "palace": ("in", ["under a silk pillow", "behind a golden door", "beside the fountain"]),
    "snow": ("in", ["under a white bush", "beside a frozen pond", "next to some footprints"]),
    "moon": ("on", ["at the edge of a crater", "in the silver dust", "behind a round rock"]),
}

FEARS = {
    "the dark": "night", "thunder": "storm", "storms": "storm", "water": "water", "heights": "height",
    "the sea": "water", "deep water": "water", "ghosts": "night", "monsters": "night",
    "shadows": "night", "loud noises": "noise", "spiders": "animal", "bees": "animal",
    "snakes": "animal", "wolves": "animal", "dogs": "animal", "mice": "animal",
    "the forest": "forest", "strangers": "stranger", "the wind": "storm", "lightning": "storm",
    "being alone": "alone", "flying": "height", "the night": "night", "cats": "animal",
}

# skill -> (teacher's advice, what the skill is good for in the end)
SKILLS = {
    "swim": ("Kick slowly and keep your head up", "swam all the way across the pond"),
    "sing": ("Take a deep breath and listen to the birds", "sang a song for the whole village"),
    "dance": ("Count to three and feel the music", "danced all evening at the summer party"),
    "read": ("Start with one small word", "read a whole story aloud to the little ones"),
    "write": ("Draw each letter slowly", "wrote a long letter to a friend far away"),
    "cook": ("Taste the soup before you add the salt", "cooked a warm dinner for everyone"),
    "bake": ("Be patient with the dough", "baked a sweet cake for the whole street"),
    "paint": ("Look first, then paint", "painted the most beautiful picture of the hills"),
    "skate": ("Bend your knees and look ahead", "skated around the frozen lake without falling"),
    "climb": ("Take one small step at a time", "climbed to the very top of the old oak"),
    "fly": ("Trust the wind and do not look down", "flew in a big circle over the trees"),
    "whistle": ("Make your lips round and blow softly", "whistled a tune that all the birds knew"),
    "juggle": ("Begin with only two apples", "juggled five apples at the fair"),
    "sew": ("Make every stitch small and neat", "sewed a warm blanket for the winter"),
    "fish": ("Sit still and wait", "brought home dinner for the whole family"),
    "jump": ("Run fast and look at the other side", "jumped right over the little stream"),
    "count": ("Use stones to help you", "counted all the stars above the roof"),
    "ski": ("Lean forward and keep your knees soft", "raced down the white hill with a happy shout"),
    "ride a bicycle": ("Look ahead and keep going", "rode all the way to the next village"),
    "play the flute": ("Blow gently and move one finger at a time", "played a soft tune at the evening fire"),
    "play the drum": ("Listen to your own heart", "played at the head of the summer parade"),
    "tie a knot": ("Cross the ends and pull", "tied the boat safely to the shore"),
    "make bread": ("Let the dough rest in a warm place", "made fresh bread for every neighbor"),
    "say sorry": ("Just say what is in your heart", "said sorry and was forgiven at once"),
    "be brave": ("Being brave means trying even when you are scared", "walked through the dark wood alone"),
    "share": ("A gift makes two people happy", "gave half of the cake to a friend"),
    "wait": ("Good things need time", "waited until the apples were ripe and sweet"),
}

PSEUDO_ONSETS = "b bl br c ch d dr f fl g gl gr h j k l m n p pl r s sh sl sn st t tr v w z".split()
PSEUDO_VOWELS = "a e i o u oo ee ai".split()
PSEUDO_CODAS = " n m l r b g p t ck nk mp ll x".split(" ")


def invented_word(rng):
    """A word that is in no list: one or two syllables, said like English."""
    word = ""
    for _ in range(rng.choice((1, 2, 2))):
        word += rng.choice(PSEUDO_ONSETS) + rng.choice(PSEUDO_VOWELS) + rng.choice(PSEUDO_CODAS)
    return word
