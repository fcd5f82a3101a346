"""Make the two example tasks: `python examples/make_examples.py` rewrites the files beside it.

Each task has 400 training rows and 60 held-out rows. No held-out message is a training message or
one that the starter base was built from: the phrasings are separate lists, and no first name, last
name or shop is in both sets. Shared are the ways to greet and thank, the pools of amounts, dates,
relatives, countries and cities, and the answers' form: a held-out row tests other words for the
same task, not another task. Everything is invented and seeded, so that running this again changes
no byte.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # to run from a checkout that is not installed

from train.starter import words as words  # noqa: E402
from train.starter.families import polite  # noqa: E402
from train.starter.words import pick  # noqa: E402

Row = dict[str, list[dict[str, str]]]

TRAIN_ROWS = 400
HELD_OUT_ROWS = 60

# Support: the tag, an acknowledgement, one question, the next step.
REPLIES = {
    "Account Access": "I understand, and I can help you get back in. What is the email address on"
    " your account? I will send you a reset link.",
    "Fraud Report": "I'm sorry this happened to you. What are the last 4 digits of your card? I"
    " will secure your account right away.",
    "Transaction Dispute": "I understand that this charge looks wrong. What is the name of the"
    " merchant? I will open a dispute right away.",
    "General Inquiry": "Thank you for your question. What would you like to know more about? I"
    " will find the right answer.",
}
SUPPORT_TRAIN = {
    "Account Access": (
        "I cannot sign in to my account.",
        "I forgot my password.",
        "My account is locked.",
        "The app does not accept my PIN.",
        "I can't log in.",
        "My password is not working.",
        "I am locked out of the app.",
        "I never get the code to sign in.",
        "The sign in page says my email is wrong.",
        "I need to get back into my account.",
        "My login stopped working on {date}.",
        "I need a reset link for my account.",
        "My new password does not work since {date}.",
        "The app signs me out and I cannot get in again.",
    ),
    "Fraud Report": (
        "Someone stole my card.",
        "My card was stolen on {date}.",
        "Someone used my card without asking.",
        "I think my card was copied.",
        "A thief has my card.",
        "Someone hacked my account and took {amount}.",
        "There was fraud on my card.",
        "I lost my card and now there are payments to {shop}.",
        "Someone is using my card at {shop}.",
        "My wallet was stolen on {date}.",
        "I got a strange message that asked for my PIN.",
        "A person called and took my password.",
        "Somebody else paid {amount} at {shop} with my card.",
        "My {relative} says that someone stole my card.",
    ),
    "Transaction Dispute": (
        "I was charged twice by {shop}.",
        "I want to dispute a charge of {amount}.",
        "The {amount} charge from {shop} is wrong.",
        "{shop} charged me {amount} but I returned the item.",
        "I was charged {amount} on {date} for an order I canceled.",
        "The amount from {shop} is not right.",
        "I paid {shop} twice on {date}.",
        "I did not get the item from {shop} but I paid {amount}.",
        "{shop} took too much money.",
        "I want my {amount} back from {shop}.",
        "There is a double payment to {shop}.",
        "My refund of {amount} from {shop} never came.",
        "I don't recognize the {amount} payment to {shop}.",
        "Please check the charge from {shop}, it should be {amount}.",
    ),
    "General Inquiry": (
        "What are your hours?",
        "How do I open an account?",
        "What is a debit card?",
        "Do you have a fee for transfers?",
        "How long does a transfer take?",
        "How can I raise my limit?",
        "What is the interest on savings?",
        "Where can I find my statement?",
        "Can I use my card in {country}?",
        "How do I order a new card for my {relative}?",
        "What is a budget?",
        "Tell me about your loans.",
        "Can my {relative} open an account too?",
        "Do you have an office in {city}?",
    ),
}
SUPPORT_HELD_OUT = {
    "Account Access": (
        "I can't sign in to the app.",
        "My PIN is not accepted and I am locked out.",
        "I forgot the password for my account.",
        "The login page does not work for me.",
        "My account was locked on {date}.",
        "I do not get the sign in code.",
    ),
    "Fraud Report": (
        "A stranger is using my card.",
        "My card got stolen at {shop} on {date}.",
        "I think someone copied my card details.",
        "Somebody stole my wallet and my card.",
        "There is fraud on my account for {amount}.",
        "A thief used my card at {shop}.",
    ),
    "Transaction Dispute": (
        "{shop} charged my card twice on {date}.",
        "I want to dispute the {amount} payment to {shop}.",
        "{shop} took {amount} but I canceled the order.",
        "The charge of {amount} is wrong.",
        "I paid {amount} twice at {shop}.",
        "{shop} never sent my item and I want my {amount} back.",
    ),
    "General Inquiry": (
        "What is the fee for a transfer to {country}?",
        "How do I find my monthly statement?",
        "How does a credit card work?",
        "How long does a refund take?",
        "Can you tell me your opening hours in {city}?",
        "How can my {relative} get a loan?",
    ),
}
SHOPS_HELD_OUT = (
    "Bramwick Store",
    "Tolveris",
    "Pendora Market",
    "Halcombe Books",
    "Zintomart",
    "Orlanda Cafe",
    "Mistrel Online",
    "Corvalle",
    "Dunmara Store",
    "Felstrom Market",
)

# Payments: three fields, each copied from the message letter by letter.
PAYMENTS_TRAIN = (
    "Send {amount} to {name} on {date}.",
    "Please pay {name} {amount} on {date}.",
    "Transfer {amount} to {name} by {date}.",
    "I want to send {name} {amount} on {date}.",
    "Pay {amount} to {name}, {date} please.",
    "Pay {name} {amount} on {date}.",
    "On {date}, pay {name} {amount}.",
    "{name} needs {amount} by {date}.",
    "I owe {name} {amount}, pay it on {date}.",
    "Please send {amount} to {name} by {date}.",
    "Could you pay {name} {amount} by {date}?",
    "Set up a payment of {amount} to {name} for {date}.",
    "By {date}, transfer {name} {amount}.",
)
PAYMENTS_HELD_OUT = (
    "Can you send {name} {amount} on {date}?",
    "Please transfer {amount} to {name} on {date}.",
    "I have to pay {name} {amount} by {date}.",
    "By {date}, send {amount} to {name}.",
    "I need to send {amount} to {name} on {date}.",
    "Pay {name} {amount} by {date}.",
)


def main() -> None:
    """Write both tasks' files, with `\\n` line ends whatever the system."""
    for (task, split), rows in make_all().items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = HERE / task / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def make_all() -> dict[tuple[str, str], list[Row]]:
    """The rows of every file, by (task, split)."""
    names = invented_names(Random(41), TRAIN_ROWS)
    held_names = invented_names(Random(42), HELD_OUT_ROWS, unlike=names)
    return {
        ("support", "train"): distinct(
            TRAIN_ROWS, Random(11), lambda r: support_row(r, SUPPORT_TRAIN, words.shop)
        ),
        ("support", "heldout"): distinct(
            HELD_OUT_ROWS,
            Random(12),
            lambda r: support_row(r, SUPPORT_HELD_OUT, lambda r: pick(r, SHOPS_HELD_OUT)),
        ),
        ("payments", "train"): distinct(
            TRAIN_ROWS, Random(21), lambda r: payment_row(r, PAYMENTS_TRAIN, pick(r, names))
        ),
        ("payments", "heldout"): distinct(
            HELD_OUT_ROWS,
            Random(22),
            lambda r: payment_row(r, PAYMENTS_HELD_OUT, pick(r, held_names)),
        ),
    }


def distinct(count: int, random: Random, make: Callable[[Random], Row]) -> list[Row]:
    """`count` rows, none of which asks what another asks."""
    rows: dict[str, Row] = {}
    while len(rows) < count:
        row = make(random)
        rows.setdefault(row["messages"][0]["content"].lower(), row)
    return list(rows.values())


def row_of(question: str, answer: str) -> Row:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def support_row(
    random: Random, phrasings: dict[str, tuple[str, ...]], shop: Callable[[Random], str]
) -> Row:
    intent = pick(random, tuple(phrasings))
    question = pick(random, phrasings[intent]).format(
        amount=words.amount(random),
        shop=shop(random),
        date=words.date(random),
        country=pick(random, tuple(words.CAPITALS)),
        city=pick(random, tuple(words.CAPITALS.values())),
        relative=pick(random, words.RELATIVES),
    )
    if random.random() < 0.7:
        question = polite(random, question)
    return row_of(question, f"[Intent: {intent}] {REPLIES[intent]}")


def payment_row(random: Random, phrasings: Sequence[str], name: str) -> Row:
    fields = {"payee": name, "amount": words.amount(random), "date": words.date(random)}
    question = pick(random, tuple(phrasings)).format(
        name=name, amount=fields["amount"], date=fields["date"]
    )
    return row_of(question, json.dumps(fields))


def invented_names(random: Random, count: int, *, unlike: Sequence[str] = ()) -> tuple[str, ...]:
    """Full names of invented parts, none of which occurs inside a name of `unlike`."""
    taken = " ".join(unlike)
    names: list[str] = []
    while len(names) < count:
        parts = [words.invented_word(random, 1, 2) for _ in range(2)]
        if not any(part in taken for part in parts):
            names.append(" ".join(parts))
    return tuple(names)


if __name__ == "__main__":
    main()
