"""What the demo detector is taught to name: icons, their short names, synonyms, plurals, and what it must
not name.

Every entry is a Unicode emoji. Its short name is taken from the character's own Unicode name (`RED APPLE` →
`apple`, `ALARM CLOCK` → `alarm clock`) or, where people do not say what Unicode says, is an everyday word
for it (`TANGERINE` → `orange`). `unicode_name` gives the original.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Name:
    """One thing that the detector can be asked for."""

    text: str
    """Short name: lower case, singular where English has one; the label in every figure."""
    codepoint: str
    """Hexadecimal code point of the emoji, as the icon sets write it (`1f34e`)."""
    synonyms: tuple[str, ...] = ()
    """Other words for it that training uses too, singular or plural as they stand."""
    plurals: tuple[str, ...] = ()
    """Plural forms; empty for words that are plural or uncountable already."""
    adjectives: tuple[str, ...] = ()
    """Words that may stand before the name and stay true of every icon drawn for it."""
    group: str = "thing"
    """fruit · food · animal · thing; the fruits fill the baskets."""

    @property
    def unicode_name(self) -> str:
        """The character's own name, for example `RED APPLE`."""
        return unicodedata.name(chr(int(self.codepoint, 16)))


_FOOD_ADJECTIVES = ("fresh", "tasty", "delicious")
_FRUIT_ADJECTIVES = ("ripe", "fresh", "juicy", "sweet", "whole")
_ANIMAL_ADJECTIVES = ("cute", "wild", "young")
_THING_ADJECTIVES = ("new", "old", "nice")
_ANY_ADJECTIVES = ("small", "big", "large", "little", "single", "beautiful")
_GROUP_ADJECTIVES = {
    "fruit": _FRUIT_ADJECTIVES,
    "food": _FOOD_ADJECTIVES,
    "animal": _ANIMAL_ADJECTIVES,
    "thing": _THING_ADJECTIVES,
}

# One line a name: `name = code point | synonyms | colours that every drawing of it has`. A name already
# plural is marked with a star.
_TABLE = """
[fruit]
apple        = 1f34e | | red
banana       = 1f34c | bunch of bananas | yellow
pineapple    = 1f34d | ananas |
grapes*      = 1f347 | grape, bunch of grapes | purple
watermelon   = 1f349 | slice of watermelon, watermelon slice |
orange       = 1f34a | tangerine, mandarin, clementine |
lemon        = 1f34b | citrus | yellow
strawberry   = 1f353 | | red
cherries*    = 1f352 | cherry, pair of cherries | red
peach        = 1f351 | nectarine |
pear         = 1f350 | | green
kiwi         = 1f95d | kiwi fruit, kiwifruit | green
mango        = 1f96d | |
coconut      = 1f965 | |
melon        = 1f348 | cantaloupe, honeydew | green
blueberries* = 1fad0 | blueberry | blue

[food]
tomato       = 1f345 | | red
eggplant     = 1f346 | aubergine | purple
avocado      = 1f951 | | green
carrot       = 1f955 | |
corn*        = 1f33d | ear of corn, maize, corn cob | yellow
mushroom     = 1f344 | toadstool |
broccoli*    = 1f966 | | green
cucumber     = 1f952 | pickle | green
chili pepper = 1f336 | hot pepper, chili, pepper | red
bread*       = 1f35e | loaf of bread, loaf |
croissant    = 1f950 | |
cheese*      = 1f9c0 | piece of cheese, cheese wedge | yellow
hamburger    = 1f354 | burger, cheeseburger |
pizza        = 1f355 | slice of pizza, pizza slice |
hot dog      = 1f32d | hotdog |
egg          = 1f95a | |
french fries*= 1f35f | fries, chips |
popcorn*     = 1f37f | box of popcorn |
doughnut     = 1f369 | donut |
birthday cake= 1f382 | cake |
ice cream    = 1f366 | soft ice cream, ice cream cone |
lollipop     = 1f36d | candy |
honey pot    = 1f36f | honey, pot of honey |
pancakes*    = 1f95e | pancake, stack of pancakes |
coffee       = 2615  | cup of coffee, hot beverage, cup |
beer         = 1f37a | beer mug, mug of beer |
wine glass   = 1f377 | wine, glass of wine | red
cocktail     = 1f378 | cocktail glass, martini |
glass of milk= 1f95b | milk | white

[animal]
dog          = 1f436 | dog face, puppy |
cat          = 1f431 | cat face, kitten |
rabbit       = 1f430 | rabbit face, bunny |
fox          = 1f98a | fox face |
bear         = 1f43b | bear face | brown
panda        = 1f43c | panda face, panda bear |
koala        = 1f428 | koala face | gray
tiger        = 1f42f | tiger face |
lion         = 1f981 | lion face |
cow          = 1f42e | cow face |
pig          = 1f437 | pig face | pink
frog         = 1f438 | frog face | green
monkey       = 1f435 | monkey face, chimpanzee | brown
horse        = 1f434 | horse face, pony | brown
unicorn      = 1f984 | unicorn face |
chicken      = 1f414 | hen |
penguin      = 1f427 | |
duck         = 1f986 | mallard |
owl          = 1f989 | |
bee          = 1f41d | honeybee, bumblebee |
ladybug      = 1f41e | lady beetle, ladybird | red
butterfly    = 1f98b | |
snail        = 1f40c | |
snake        = 1f40d | serpent | green
octopus      = 1f419 | |
crab         = 1f980 | | red
fish*        = 1f41f | |
whale        = 1f433 | spouting whale | blue
elephant     = 1f418 | | gray
sheep*       = 1f411 | lamb |

[thing]
basket       = 1f9fa | wicker basket, fruit basket, basketry |
rose         = 1f339 | | red
sunflower    = 1f33b | | yellow
tulip        = 1f337 | |
tree         = 1f333 | deciduous tree | green
palm tree    = 1f334 | palm |
christmas tree = 1f384 | fir tree |
maple leaf   = 1f341 | |
four leaf clover = 1f340 | clover, shamrock | green
car          = 1f697 | automobile |
bus          = 1f68c | |
bicycle      = 1f6b2 | bike |
airplane     = 2708  | plane, aeroplane |
rocket       = 1f680 | spaceship |
helicopter   = 1f681 | chopper |
locomotive   = 1f682 | steam locomotive, train |
ambulance    = 1f691 | |
sailboat     = 26f5  | sailing boat, boat |
umbrella     = 2614  | umbrella with rain drops |
key          = 1f511 | |
guitar       = 1f3b8 | |
trumpet      = 1f3ba | |
drum         = 1f941 | |
alarm clock  = 23f0  | clock |
watch        = 231a  | wristwatch |
book         = 1f4d5 | closed book, notebook |
soccer ball  = 26bd  | football, soccer |
basketball   = 1f3c0 | |
balloon      = 1f388 | |
gift         = 1f381 | present, wrapped gift |
camera       = 1f4f7 | |
television   = 1f4fa | tv |
laptop       = 1f4bb | computer, notebook computer |
light bulb   = 1f4a1 | bulb, lamp | yellow
scissors*    = 2702  | pair of scissors |
hammer       = 1f528 | |
pencil       = 270f  | |
crown        = 1f451 | |
glasses*     = 1f453 | eyeglasses, spectacles, pair of glasses |
t-shirt      = 1f455 | shirt, tee shirt |
sneaker      = 1f45f | running shoe, athletic shoe, shoe |
handbag      = 1f45c | purse, bag |
top hat      = 1f3a9 | hat |
house        = 1f3e0 | home |
trophy       = 1f3c6 | award |
"""

_IRREGULAR = {"mouse": "mice", "loaf": "loaves", "maple leaf": "maple leaves", "leaf": "leaves"}


def pluralise(text: str) -> str:
    """The English plural of a singular noun phrase: `peach` → `peaches`, `glass of milk` → `glasses of milk`.

    Enough grammar for the names here; the test lists every plural it makes.
    """
    head, of, rest = text.partition(" of ")
    if of:
        return pluralise(head) + of + rest
    if text in _IRREGULAR:
        return _IRREGULAR[text]
    if re.search(r"[^aeiou]y$", text):
        return text[:-1] + "ies"
    if text in ("tomato", "potato", "mango"):
        return text + "es"
    if re.search(r"(s|x|z|ch|sh)$", text):
        return text + "es"
    return text + "s"


# Synonyms that are plural or uncountable as they stand: no plural is made of them.
_NO_PLURAL = {
    "fries",
    "chips",
    "milk",
    "wine",
    "honey",
    "maize",
    "citrus",
    "candy",
    "soccer",
    "french bread",
    "basketry",
    "bunch of grapes",
    "eyeglasses",
    "spectacles",
    "strips of bacon",
    "pair of glasses",
    "pair of scissors",
    "umbrella with rain drops",
}


@cache
def names() -> tuple[Name, ...]:
    """All trained names in a fixed order: a name's index is its class id in every pool and figure."""
    parsed: list[Name] = []
    group = ""
    for line in filter(None, map(str.strip, _TABLE.splitlines())):
        if line.startswith("["):
            group = line.strip("[]")
            continue
        head, _, tail = line.partition("=")
        codepoint, synonyms_field, colours_field = (part.strip() for part in tail.split("|"))
        text, plural_already = head.strip().rstrip("*"), head.strip().endswith("*")
        synonyms = tuple(filter(None, (word.strip() for word in synonyms_field.split(","))))
        singulars = [word for word in synonyms if word not in _NO_PLURAL]
        if not plural_already:
            singulars.insert(0, text)
        plurals = dict.fromkeys(pluralise(word) for word in singulars)
        if text == "mango":
            plurals["mangos"] = None
        colours = tuple(filter(None, (word.strip() for word in colours_field.split(","))))
        parsed.append(
            Name(
                text=text,
                codepoint=codepoint,
                synonyms=synonyms,
                plurals=tuple(plural for plural in plurals if plural != text),
                adjectives=colours + _GROUP_ADJECTIVES[group] + _ANY_ADJECTIVES,
                group=group,
            )
        )
    return tuple(parsed)


def first_names(count: int) -> tuple[Name, ...]:
    """The first `count` names, all for 0: a smaller vocabulary, fruit first, takes less time to teach."""
    return names()[:count] if count else names()


@cache
def index_of(text: str) -> int:
    """Class id of a trained short name; KeyError with the name if there is none."""
    for index, name in enumerate(names()):
        if name.text == text:
            return index
    raise KeyError(f"{text!r} is not a trained name")


HELD_OUT: tuple[Name, ...] = (
    Name("pretzel", "1f968", group="food"),
    Name("turtle", "1f422", group="animal"),
    Name("camel", "1f42b", group="animal"),
    Name("spider", "1f577", group="animal"),
    Name("tractor", "1f69c"),
    Name("taxi", "1f695"),
    Name("violin", "1f3bb"),
    Name("candle", "1f56f"),
    Name("bell", "1f514"),
    Name("snowman", "26c4"),
    Name("cactus", "1f335"),
    Name("backpack", "1f392"),
)
"""Never drawn in training, labelled or not, and no word of theirs is in the training text or the
tokenizer's corpus.
"""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _span(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"{code:x}" for code in range(first, last + 1))


DISTRACTORS: tuple[str, ...] = (
    # smileys but the cat faces, people, hands
    *_span(0x1F600, 0x1F637),
    *_span(0x1F641, 0x1F644),
    *_span(0x1F910, 0x1F917),
    *_span(0x1F920, 0x1F92F),
    *_span(0x1F466, 0x1F469),
    *_span(0x1F46E, 0x1F478),
    *_span(0x1F446, 0x1F44F),
    # ghosts and dolls, plain discs and hearts (a red disc is no apple), signs, tools, dishes, plants,
    # animals, houses
    *_listed(
        """
        1f47b 1f47d 1f480 1f383 1f916 1f385 1f9d9 1f9da 1f440 1f442 1f443 1f444 1f4aa 1f590 1f64f 1f534
        1f535 1f7e0 1f7e1 1f7e2 1f7e3 1f7e4 26aa 26ab 1f7e5 1f7e7 1f7e8 1f7e9 1f7e6 1f536 1f537 1f4a2 1f4a5
        1f525 1f4a7 1f30a 2b50 1f31f 1f319 1f31e 1f315 2601 26a1 2744 1f308 2764 1f49b 1f49a 1f499 1f49c
        1f494 1f498 1f4cc 1f4ce 1f4cf 1f4c5 1f4c8 1f4c1 1f4bc 1f4e6 1f4e7 1f4ee 1f4b0 1f4b3 1f50b 1f50c
        1f50d 1f526 1f4a3 1f52a 1f527 1f529 1f52b 1f6bd 1f6c1 1f6aa 1f3c1 1f6a9 1f6ab 26d4 1f6d1 267b 2705
        274c 2753 2757 1f4af 1f197 1f374 1f944 1f3fa 1f371 1f35a 1f35c 1f372 1f373 1f362 1f361 1f363 1f364
        1f357 1f356 1f959 1f957 1f96b 1f376 1f37c 1f943 1f331 1f33e 1f33f 1f343 1f38d 1f338 1f33a 1f426
        1f41c 1f41b 1f98e 1f987 1f992 1f98f 1f993 1f40a 1f988 1f990 1f991 1f54a 1f423 1f43a 1f432 1f41a
        1f43e 1f9b4 1f3e2 1f3f0 26ea 1f3ed 1f5fd 1f5fc 26f2 1f3a1 1f3aa 1f6a6 1f6a7 26fd 2693 1f6f8 1f6f4
        1f6b0 1f6d2 1f3af 1f3b2 1f3b3 1f3ae 1f3a8 1f3ac 1f3a4 1f3a7 1f3b7 1f3b9 1f941 1f94a 1f3bf 1f3bd
        1f3be 1f3d0 1f3b1 1f3d3 1f454 1f456 1f459 1f462 1f9e6 1f9e4 1f9e3 1f484 1f48a 1f489 1f52c 1f52d
        1f4e1 1f5a8 1f4bd 1f4be 1f4ff 1f4ef 1f4e3 1f50a 231b 1f56f 1f9f8 1f9f9 1f9fb 1f9f2 1f9ea 1fa91 1f6cb
        1f6cf
        """
    ),
)
"""Drawn but never labelled, so that a face, a hand, a red disc or a pot of flowers is nobody's fruit."""

NEVER_DRAWN: tuple[str, ...] = ("1f34f", "1f45b", "1f40e", "1f404", "1f416", "1f408", "1f415", "1f401")
"""Left out altogether: another drawing of a trained name (green apple, whole horse), which is neither right
nor wrong.
"""


@cache
def distractors() -> tuple[str, ...]:
    """`DISTRACTORS` without what is trained, held out or listed twice."""
    taken = {name.codepoint for name in (*names(), *HELD_OUT)} | set(NEVER_DRAWN)
    return tuple(code for code in dict.fromkeys(DISTRACTORS) if code not in taken)


# What an icon is called in sets that name it differently from Noto; by set, then code point.
ICON_IDS: dict[str, dict[str, str]] = {
    "fxemoji": {
        "1f346": "aubergine",
        "1f33d": "earofmaize",
        "1f336": "chilipepper",
        "1f355": "sliceofpizza",
        "1f436": "dog",
        "1f431": "cat",
        "1f42d": "mouse",
        "1f430": "bunny",
        "1f43c": "pandaface",
        "1f42f": "tiger",
        "1f437": "pig",
        "1f433": "spurtingwhale",
        "1f682": "steamlocomotive",
        "1f3c0": "basketballandhoop",
        "1f381": "present",
        "1f4f1": "cellphone",
        "1f4bb": "personalcomputer",
        "2702": "blackscissors",
        "1f512": "lock",
        "1f455": "mansshirt",
        "1f3e0": "housebuilding",
        "1f330": "acorn",
        "1f34a": "tangerine",
        "1f333": "deciduoustree",
        "1f42b": "bactriancamel",
    },
}
