"""The words and values that the starter's corpus and the example tasks are filled with.

Everything is a tuple or a function of a `random.Random`: the same generator state always gives the
same value. Names and shops are mostly invented from syllables, because the base must learn to copy
words that it has never met, not to remember a list.
"""

from random import Random
from typing import TypeVar

T = TypeVar("T")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


_ONSETS = _listed(
    "b c d f g h j k l m n p qu r s t v w y z br cl cr dr fl gl gr kh kr pl pr sc sh sk sl sm sp st"
    " th tr ch zh"
)
_LINKS = ("", "", "", "n", "r", "l", "s", "m", "d", "t")
_VOWELS = _listed("a e i o u a e i o u ai ea ee ia ie io oa oo ou y")
_CODAS = ("", "", "", *_listed("n r l s m x t d k nd nn th ck rt st ll ng sh"))

FIRST_NAMES = _listed(
    "Alex Maria John Priya Sam Chen Fatima Luis Emma Noah Olivia Ravi Sofia Ahmed Grace Tom Nina"
    " Omar Julia Peter Lena Marcus Irene Hugo Wendy Ivan Clara Diego Ruth Felix"
)
LAST_NAMES = _listed(
    "Smith Lopez Patel Kim Brown Garcia Nguyen Khan Silva Rossi Novak Jones Meyer Okafor Tanaka"
    " Cohen Larsen Dubois Walsh Ortiz"
)
SHOP_ENDINGS = ("", " Store", " Market", " Cafe", " Online", " Books", "mart")
MONTHS = _listed(
    "January February March April May June July August September October November December"
)
DAYS = _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
ITEMS = (
    "laptop",
    "phone",
    "jacket",
    "pair of shoes",
    "headset",
    "book",
    "lamp",
    "watch",
    "backpack",
    "keyboard",
    "kettle",
    "chair",
    "camera",
    "tablet",
    "blender",
    "mug",
    "desk",
    "monitor",
)
RELATIVES = ("mother", "father", "sister", "brother", "friend", "son", "daughter", "neighbor")
CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "India": "New Delhi",
    "Canada": "Ottawa",
    "Egypt": "Cairo",
    "Brazil": "Brasilia",
    "Kenya": "Nairobi",
    "Norway": "Oslo",
    "Greece": "Athens",
    "Portugal": "Lisbon",
    "China": "Beijing",
    "Peru": "Lima",
    "Cuba": "Havana",
}
COLORS = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "blood": "red",
    "coal": "black",
    "a banana": "yellow",
    "milk": "white",
    "a strawberry": "red",
    "a leaf": "green",
}
# What strangers ask a support assistant about: enough variety that "I am not sure" is learned from
# the shape of a question and not from a list of subjects.
SUBJECTS = _phrases(
    "animals, art, atoms, basketball, bears, bicycles, birds, bread, bridges, butter, cars, "
    "cats, chemistry, chess, children, chocolate, climate, clouds, coffee, computers, "
    "cooking, dancing, dinosaurs, doctors, dogs, dreams, earthquakes, elections, electricity, "
    "engines, farming, fashion, films, fish, flowers, football, forests, fruit, games, "
    "gardens, gravity, guitars, health, history, horses, houses, ice, islands, jokes, "
    "languages, laws, lions, love, machines, magic, maps, mathematics, medicine, monkeys, "
    "mountains, movies, music, novels, painting, physics, pizza, planets, plants, poetry, "
    "politics, programming, psychology, rain, rivers, robots, rockets, salad, science, "
    "sharks, ships, sleep, soccer, songs, soup, space, sports, stars, stories, storms, "
    "swimming, tea, teachers, tennis, the brain, the moon, the ocean, the president, the "
    "universe, the weather, the war, the world, trains, travel, trees, trucks, vegetables, "
    "volcanoes, whales, wine, winter, wolves, yoga"
)


def pick(random: Random, choices: tuple[T, ...] | list[T]) -> T:
    """One of `choices`, by a call that is the same on every Python version."""
    return choices[int(random.random() * len(choices))]


def number_between(random: Random, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return low + int(random.random() * (high - low + 1))


def invented_word(random: Random, fewest: int = 1, most: int = 3) -> str:
    """A capitalised word of `fewest` to `most` syllables that no list holds: `Quentar`."""
    syllables = number_between(random, fewest, most)
    word = ""
    for left in reversed(range(syllables)):
        closing = pick(random, _LINKS if left else _CODAS)
        word += pick(random, _ONSETS) + pick(random, _VOWELS) + closing
    return word.capitalize()


def first_name(random: Random) -> str:
    return pick(random, FIRST_NAMES) if random.random() < 0.15 else invented_word(random)


def last_name(random: Random) -> str:
    return pick(random, LAST_NAMES) if random.random() < 0.15 else invented_word(random)


def full_name(random: Random) -> str:
    return f"{first_name(random)} {last_name(random)}"


def digits(random: Random, fewest: int = 3, most: int = 6) -> str:
    length = number_between(random, fewest, most)
    return "".join(str(number_between(random, 0, 9)) for _ in range(length))


def amount(random: Random) -> str:
    """A sum of money: `$73.20` or `$450`."""
    if random.random() < 0.5:
        return f"${number_between(random, 1, 999)}.{number_between(random, 0, 99):02d}"
    return f"${number_between(random, 1, 2000)}"


def shop(random: Random) -> str:
    return invented_word(random, 2, 3) + pick(random, SHOP_ENDINGS)


def weekday(random: Random) -> str:
    return pick(random, DAYS)


def date(random: Random) -> str:
    """`3 May`, `May 3` or `Friday`."""
    day = number_between(random, 1, 28)
    month = pick(random, MONTHS)
    return pick(random, (f"{day} {month}", f"{month} {day}", pick(random, DAYS)))


def item(random: Random) -> str:
    return pick(random, ITEMS)
