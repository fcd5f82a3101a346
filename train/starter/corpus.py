"""The conversations that the starter base learns from: generated, seeded, standard library only.

A chat is a list of (role, content). Half of the families teach answers on a few topics (accounts,
cards, orders, payments), half teach copying: names, amounts and numbers that were never seen must
come back letter by letter, alone, in a sentence or as JSON. Whatever is asked off these topics gets
one short answer that ends.
"""

from collections.abc import Callable
from random import Random

from train.starter import answers as answers
from train.starter import families as families
from train.starter import words as words
from train.starter.families import Exchange, polite, reply
from train.starter.words import pick

Message = tuple[str, str]
Chat = list[Message]

SUGGESTED_PROMPTS = (
    "How do I reset my password?",
    "Where is order 59318?",
    "I paid $73.20 at Vorbelmart.",
    "Someone stole my card.",
    "What is a credit card?",
    "My name is Quentar Blosk.",
)


def corpus(count: int, seed: int) -> list[Chat]:
    """`count` chats of one to three exchanges; the same seed gives the same chats everywhere."""
    random = Random(seed)
    return [_chat(random) for _ in range(count)]


def _chat(random: Random) -> Chat:
    exchanges: list[Exchange] = []
    if random.random() < 0.12:
        exchanges += _thread(random)
    else:
        exchanges.append(_single(random))
    if random.random() < 0.12:
        exchanges.append(_single(random))
    chat: Chat = []
    if random.random() < 0.25:
        chat.append(("system", pick(random, answers.SYSTEM_PROMPTS)))
    for question, answer in exchanges:
        chat += [("user", question), ("assistant", answer)]
    return chat


def _single(random: Random) -> Exchange:
    """One exchange of a family drawn by weight."""
    mark = random.random() * _TOTAL_WEIGHT
    for weight, family in _FAMILIES:
        mark -= weight
        if mark < 0:
            return family(random)
    return _FAMILIES[-1][1](random)


# Threads: the second question needs the first


def _thread(random: Random) -> list[Exchange]:
    return pick(random, (_topic_thread, _name_thread, _order_thread, _money_thread))(random)


def _topic_thread(random: Random) -> list[Exchange]:
    topic = pick(random, answers.TOPICS)
    question = pick(random, answers.HOW_TO_ASK).format(pick(random, topic.phrasings))
    how_long = pick(random, ("How long does it take?", "How long will that take?"))
    which_page = pick(random, ("Which page is that?", "Where do I find it?"))
    follow_up = pick(
        random,
        (
            (how_long, f"It usually takes {topic.duration}."),
            (which_page, f"You can find it on the {topic.page} page."),
            families.thanks(random),
        ),
    )
    return [(polite(random, question), reply(random, topic.answer)), follow_up]


def _name_thread(random: Random) -> list[Exchange]:
    name = words.full_name(random)
    opening = f"My name is {name}.", f"Nice to meet you, {name}. How can I help you today?"
    question = pick(random, ("What is my name?", "Do you remember my name?"))
    return [opening, (question, f"Your name is {name}.")]


def _order_thread(random: Random) -> list[Exchange]:
    number = words.digits(random)
    answer = (
        f"Order {number} is in our system. Please open the Orders page to see its latest status."
    )
    question = pick(random, ("What was my order number?", "Which order is that?"))
    return [(f"Where is order {number}?", answer), (question, f"Your order number is {number}.")]


def _money_thread(random: Random) -> list[Exchange]:
    amount, shop = words.amount(random), words.shop(random)
    answer = f"The Payments page shows the details of {amount} to {shop}."
    follow_up = pick(
        random,
        (
            ("How much was it?", f"It was {amount}."),
            ("Which shop was it?", f"It was {shop}."),
        ),
    )
    return [(f"I paid {amount} at {shop}.", answer), follow_up]


_FAMILIES: tuple[tuple[float, Callable[[Random], Exchange]], ...] = (
    (3.5, families.greeting),
    (1.5, families.thanks),
    (1.5, families.goodbye),
    (1.5, families.identity),
    (16, families.how_to),
    (7, families.problem),
    (5, families.complaint),
    (6, families.fact),
    (2, families.capital),
    (1.5, families.color),
    (8, families.off_topic),
    (6, families.introduction),
    (6, families.order_status),
    (6, families.purchase),
    (6, families.send_money),
    (2, families.appointment),
    (10, families.repeat),
    (5, families.field_question),
    (10, families.as_json),
    (4, families.labelled),
)
_TOTAL_WEIGHT = sum(weight for weight, _ in _FAMILIES)
