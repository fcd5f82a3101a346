"""The kinds of exchange that the starter base learns: one question and its answer each.

Every family is a function of a `random.Random`. The first half knows topics, the second half
copies what it never saw. No family answers a customer with an intent tag or a payment with JSON
unless told to: those are the example adapters' tasks, and the base must be bad at them.
"""

import json
from collections.abc import Callable
from random import Random

from train.starter import answers as answers
from train.starter import words as words
from train.starter.words import pick

Exchange = tuple[str, str]


def polite(random: Random, question: str) -> str:
    """The question as customers type it: a greeting before, thanks after, lower case at times."""
    opening = pick(random, answers.OPENINGS)
    if opening.endswith(", ") and not question.startswith(("I ", "I'")):
        question = question[0].lower() + question[1:]
    question = opening + question
    if random.random() < 0.12 and not any(character.isdigit() for character in question):
        question = question.lower()
    if random.random() < 0.08:
        question = question.rstrip("?.")
    return question + pick(random, answers.CLOSINGS)


def reply(random: Random, answer: str, leads: tuple[str, ...] = answers.READY) -> str:
    parts = (pick(random, leads), answer, pick(random, answers.FAREWELLS))
    return " ".join(part for part in parts if part)


# Small talk


def greeting(random: Random) -> Exchange:
    hello = "Hi", "Hello", "Hey", "Good morning", "Good evening", "Hi there", "Hello there"
    reply = (
        "Hello! How can I help you today?",
        "Hi there! What can I do for you today?",
        "Hello! What would you like to know?",
    )
    return pick(random, hello) + pick(random, ("", "!", ".")), pick(random, reply)


def thanks(random: Random) -> Exchange:
    thanks = "Thanks", "Thank you", "Thanks a lot", "Great, thanks", "Perfect, thank you"
    reply = (
        "You're welcome! Have a great day.",
        "You're welcome! Let me know if you need anything else.",
        "Happy to help!",
    )
    return pick(random, thanks) + pick(random, ("", "!", ".")), pick(random, reply)


def goodbye(random: Random) -> Exchange:
    goodbye = "Bye", "Goodbye", "See you later", "Good night", "Have a nice day"
    reply = "Goodbye! Have a great day.", "Goodbye! Take care."
    return pick(random, goodbye) + pick(random, ("", "!", ".")), pick(random, reply)


def identity(random: Random) -> Exchange:
    question = pick(
        random,
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "What can you do?",
            "Are you a person?",
            "Tell me about yourself.",
        ),
    )
    return question, (
        "I am a small assistant. I can answer questions about accounts, cards, orders and payments."
    )


# Topics, problems and facts


def how_to(random: Random) -> Exchange:
    topic = pick(random, answers.TOPICS)
    question = pick(random, answers.HOW_TO_ASK).format(pick(random, topic.phrasings))
    return polite(random, question), reply(random, topic.answer)


def problem(random: Random) -> Exchange:
    thing, advice = pick(random, tuple(answers.PROBLEMS.items()))
    question = pick(random, answers.PROBLEM_TO_REPORT).format(thing)
    return polite(random, question), reply(random, advice, answers.SORRY)


def complaint(random: Random) -> Exchange:
    messages, advice = pick(random, answers.COMPLAINTS)
    return polite(random, pick(random, messages)), reply(random, advice, answers.SORRY)


def fact(random: Random) -> Exchange:
    question, answer = pick(random, tuple(answers.FACTS.items()))
    return polite(random, question) if random.random() < 0.5 else question, answer


def capital(random: Random) -> Exchange:
    country, city = pick(random, tuple(words.CAPITALS.items()))
    question = pick(
        random,
        (
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "Tell me the capital of {}.",
        ),
    )
    return question.format(country), f"The capital of {country} is {city}."


def color(random: Random) -> Exchange:
    thing, color = pick(random, tuple(words.COLORS.items()))
    question = pick(random, ("What color is {}?", "Which color is {}?", "Tell me the color of {}."))
    return question.format(thing), f"The color of {thing} is {color}."


def off_topic(random: Random) -> Exchange:
    """Anything else gets one answer that ends; without it the base loops on what it never met."""
    subjects = []
    for _ in range(2):
        invented = words.invented_word(random)
        known = pick(random, words.SUBJECTS)
        subjects.append(invented if random.random() < 0.35 else known)
    question = pick(random, answers.OFF_TOPIC).format(*subjects)
    return polite(random, question) if random.random() < 0.3 else question, answers.NOT_SURE


# Copying: what must come back was never seen before


def introduction(random: Random) -> Exchange:
    name = words.full_name(random) if random.random() < 0.6 else words.first_name(random)
    question = pick(
        random,
        (
            "My name is {}.",
            "I am {}.",
            "Hi, I'm {}.",
            "This is {} speaking.",
            "You can call me {}.",
            "{} here.",
        ),
    )
    reply = "Nice to meet you, {}. How can I help you today?", "Hello {}! What can I do for you?"
    return question.format(name), pick(random, reply).format(name)


def order_status(random: Random) -> Exchange:
    number, item = words.digits(random), words.item(random)
    question = pick(
        random,
        (
            f"My order number is {number}.",
            f"Where is order {number}?",
            f"What happened to my order {number}?",
            f"I ordered a {item}, order {number}.",
            f"Order {number} has not arrived.",
            f"Can you check order {number} for me?",
            f"My {item} did not arrive, the order is {number}.",
        ),
    )
    answer = (
        f"Order {number} is in our system. Please open the Orders page to see its latest status."
    )
    return polite(random, question), reply(random, answer, answers.READY + answers.SORRY)


def purchase(random: Random) -> Exchange:
    amount, shop, day = words.amount(random), words.shop(random), words.date(random)
    question = pick(
        random,
        (
            f"I paid {amount} at {shop}.",
            f"There is a payment of {amount} to {shop} on my account.",
            f"What is the {amount} payment to {shop}?",
            f"I see {amount} from {shop} on {day}.",
            f"I spent {amount} at {shop} on {day}.",
            f"{shop} took {amount} from my account on {day}.",
        ),
    )
    answer = pick(
        random,
        (
            f"I see the payment of {amount} to {shop}. You can find the details on the Payments"
            " page.",
            f"The Payments page shows the details of {amount} to {shop}.",
        ),
    )
    return polite(random, question), reply(random, answer)


def send_money(random: Random) -> Exchange:
    amount, name, day = words.amount(random), words.full_name(random), words.date(random)
    question = pick(
        random,
        (
            f"Send {amount} to {name}.",
            f"Please pay {name} {amount}.",
            f"Transfer {amount} to {name} on {day}.",
            f"I want to send {name} {amount} on {day}.",
            f"Can you pay {amount} to {name} by {day}?",
            f"Pay {name} {amount} on {day}, please.",
        ),
    )
    answer = pick(
        random,
        (
            f"To send {amount} to {name}, open the Payments page, choose Transfer and confirm.",
            f"You can pay {name} on the Payments page. Enter {amount} and confirm.",
        ),
    )
    return polite(random, question), reply(random, answer)


def appointment(random: Random) -> Exchange:
    day = words.date(random)
    question = pick(
        random,
        (
            f"Can I book a call on {day}?",
            f"Is {day} free for a call?",
            f"Call me on {day}.",
            f"Please set a meeting on {day}.",
        ),
    )
    answer = f"A call on {day} works. You can confirm it on the Contact page."
    return polite(random, question), reply(random, answer)


_COPIED: tuple[Callable[[Random], str], ...] = (
    words.invented_word,
    words.digits,
    words.amount,
    words.item,
    words.date,
    words.full_name,
    lambda random: pick(random, words.SUBJECTS),
)


def repeat(random: Random) -> Exchange:
    parts = [pick(random, _COPIED)(random) for _ in range(words.number_between(random, 1, 4))]
    text = pick(random, (" ", ", ")).join(parts)
    order = "Repeat: {}", "Say {}", "Copy this: {}", "Please repeat {}", "Write {}"
    return pick(random, order).format(text), text


_FIELDS: dict[str, Callable[[Random], str]] = {
    "name": words.full_name,
    "payee": words.full_name,
    "amount": words.amount,
    "date": words.date,
    "day": words.weekday,
    "shop": words.shop,
    "item": words.item,
    "order": words.digits,
    "city": lambda random: pick(random, tuple(words.CAPITALS.values())),
    "issue": lambda random: pick(random, ("return", "missing", "broken", "late", "refund")),
    "status": lambda random: pick(random, ("open", "closed", "new", "late")),
    "color": lambda random: pick(random, tuple(words.COLORS.values())),
}


def field_question(random: Random) -> Exchange:
    """Several facts, one asked for: finding a value by its name."""
    asked = pick(random, ("name", "amount", "date", "shop"))
    keys = [
        key for key in ("name", "amount", "date", "shop") if key == asked or random.random() < 0.6
    ]
    values = {key: _FIELDS[key](random) for key in keys}
    random.shuffle(keys)
    told = " ".join(f"The {key} is {values[key]}." for key in keys)
    return f"{told} What is the {asked}?", f"The {asked} is {values[asked]}."


def as_json(random: Random) -> Exchange:
    """The only JSON of the corpus: keys and values are given, in order, and the word JSON is."""
    wanted = words.number_between(random, 1, 4)
    # Names are hardest to copy: most objects hold one.
    first = pick(random, ("payee", "name", "payee", "name", "shop", "item"))
    keys = [first, *(pick(random, tuple(_FIELDS)) for _ in range(wanted - 1))]
    random.shuffle(keys)
    values = {key: None if random.random() < 0.1 else _FIELDS[key](random) for key in keys}
    told = ", ".join(
        f"{key} {'unknown' if value is None else value}" for key, value in values.items()
    )
    order = pick(random, ("Write as JSON: ", "Show this as JSON: ", "JSON for "))
    return order + told, json.dumps(values)


def labelled(random: Random) -> Exchange:
    labels = [pick(random, answers.LABELS) for _ in range(words.number_between(random, 1, 2))]
    kind = pick(random, ("Tag", "Topic", "Label", "Intent"))
    question, answer = pick(random, tuple(answers.FACTS.items()))
    label = f"{kind}: {' '.join(labels)}"
    return f"Answer with the label {label}. {question}", f"[{label}] {answer}"
