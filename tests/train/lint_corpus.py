"""Clean data sets of every kind, and the faults that are sown into them, one at a time.

A fault is a change to a clean set with the rule that must find it and the rows that it must name.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from train.data.rows import DataSet, Message, Row

THINGS = (
    "lamp", "chair", "clock", "kettle", "mirror", "basket", "ladder", "blanket", "bottle", "hammer",
    "pillow", "radio", "scooter", "teapot", "umbrella", "wallet", "zipper", "bicycle", "candle",
    "drawer", "engine", "fridge", "guitar", "helmet", "jacket",
)  # fmt: skip
ROOMS = ("kitchen", "garden", "cellar", "attic")
TOPICS = ("Delivery", "Repair", "Refund", "Warranty")
SYSTEM = "You answer for a shop.\nBe short."


def made(rows: list[tuple[Message, ...]], **facts: Any) -> DataSet:
    numbered = (Row(at, "set.jsonl", messages) for at, messages in enumerate(rows, start=1))
    return DataSet("set", "set.jsonl", "messages", tuple(numbered), **facts)


def user(text: str) -> Message:
    return Message("user", text)


def says(text: str, **facts: Any) -> Message:
    return Message("assistant", text, **facts)


def asked(thing: str, room: str) -> str:
    return {
        "kitchen": f"My {thing} in the kitchen broke on Monday. What can you do about it?",
        "garden": f"When will the new {thing} for our garden be here?",
        "cellar": f"I want the money back for a {thing}; it is still in the cellar.",
        "attic": f"How long is the {thing} covered if it stays in the attic?",
    }[room]


def tickets() -> DataSet:
    """100 chats with a system prompt and a label in each answer."""
    rows = []
    for thing in THINGS:
        for room, topic in zip(ROOMS, TOPICS, strict=True):
            answer = f"[Topic: {topic}] We will look at the {thing} from your {room} today."
            rows.append((Message("system", SYSTEM), user(asked(thing, room)), says(answer)))
    return made(rows)


def labels() -> DataSet:
    """100 rows whose answers are one of four words."""
    return made(
        [
            (user(asked(thing, room)), says(topic))
            for thing in THINGS
            for room, topic in zip(ROOMS, TOPICS, strict=True)
        ]
    )


def objects() -> DataSet:
    """100 rows whose answers are JSON, with an open field and a closed one."""
    return made(
        [
            (user(asked(thing, room)), says(f'{{"item": "{thing}", "topic": "{topic}"}}'))
            for thing in THINGS
            for room, topic in zip(ROOMS, TOPICS, strict=True)
        ]
    )


def talks() -> DataSet:
    """75 chats of several turns, with code, links, HTML and amounts in them."""
    rows = []
    for thing in THINGS:
        rows.append(
            (
                user(f"Which drawer holds the {thing}?"),
                says("Which room do you mean?"),
                user(f"The one where the {thing} was last week."),
                says(f"The {thing} is in the lowest drawer, behind the door."),
            )
        )
        rows.append(
            (
                user(f"Write a function that counts each {thing} in a list."),
                says(f"```python\ndef count(items):\n    return items.count('{thing}')\n```"),
            )
        )
        rows.append(
            (
                user(f"What did the {thing} cost in 2024, and where is the page about it?"),
                says(f"The {thing} was <s>$20.00</s> $15.50; see https://shop.example/{thing}."),
            )
        )
    return made(rows)


def calls() -> DataSet:
    """50 rows with a tool, its call and its result."""
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    rows = []
    for thing in THINGS:
        for number, room in enumerate(ROOMS[:2]):
            call = {
                "id": f"c{number}",
                "type": "function",
                "function": {"name": "find", "arguments": f'{{"item": "{thing}"}}'},
            }
            rows.append(
                (
                    user(f"Is there a {thing} in the {room}?"),
                    says("", tool_calls=(call,)),
                    Message("tool", '{"count": 3}', tool_call_id=f"c{number}"),
                    says(f"Yes, there are three in the {room}: each {thing} is new."),
                )
            )
    data = made(rows)
    return data.with_rows(replace(row, tools=(tool,)) for row in data.rows)


def pairs() -> DataSet:
    """100 preference pairs, of which half prefer the shorter answer."""
    rows = []
    for number, row in enumerate(labels().rows):
        thing = THINGS[number // 4]
        long = f"We will see to the {thing} today, and write to you before the evening comes."
        short = f"The {thing}? Not now."
        good, bad = (long, short) if number % 2 else (short, long)
        rows.append(
            replace(row, messages=(*row.prompt, says(good)), rejected=(says(bad),), answer_at=1)
        )
    return labels().with_rows(rows)


def judged() -> DataSet:
    """100 labelled completions, half of them good."""
    rows = [
        replace(
            row,
            messages=(*row.prompt, says(f"We will see to the {THINGS[at // 4]} today.")),
            label=at % 2 == 0,
            answer_at=1,
        )
        for at, row in enumerate(labels().rows)
    ]
    return labels().with_rows(rows)


CLEAN = {maker.__name__: maker for maker in (tickets, labels, objects, talks, calls, pairs, judged)}


@dataclass(frozen=True)
class Fault:
    """Sown into `clean`: the rule must name `rows`, and no other rule may give an error."""

    name: str
    rule: str
    severity: str
    clean: Callable[[], DataSet]
    sow: Callable[[DataSet], DataSet]
    rows: tuple[int, ...]


def changed(data: DataSet, number: int, **facts: Any) -> DataSet:
    return data.with_rows(
        replace(row, **facts) if row.number == number else row for row in data.rows
    )


def answered(number: int, answer: str) -> Callable[[DataSet], DataSet]:
    """Row `number` with another answer."""
    return lambda data: changed(
        data, number, messages=(*data.rows[number - 1].messages[:-1], says(answer))
    )


def with_answers(answers: dict[int, str]) -> Callable[[DataSet], DataSet]:
    def sow(data: DataSet) -> DataSet:
        for number, answer in answers.items():
            data = answered(number, answer)(data)
        return data

    return sow


def asking(number: int, question: str) -> Callable[[DataSet], DataSet]:
    """Row `number` with another question."""

    def sow(data: DataSet) -> DataSet:
        messages = list(data.rows[number - 1].messages)
        place = max(at for at, message in enumerate(messages) if message.role == "user")
        messages[place] = user(question)
        return changed(data, number, messages=tuple(messages))

    return sow


def appended(number: int, mark: str) -> Callable[[DataSet], DataSet]:
    """Row `number` with something after its answer."""
    return lambda data: answered(number, data.rows[number - 1].answer + mark)(data)


def copied(*changes: Callable[[str], str]) -> Callable[[DataSet], DataSet]:
    """A copy of row 3 at the end, its question and its answer changed."""

    def sow(data: DataSet) -> DataSet:
        row = data.rows[2]
        ask, answer = (*changes, str, str)[:2]
        messages = (*row.prompt[:-1], user(ask(row.question)), says(answer(row.answer)))
        return data.with_rows([*data.rows, replace(row, number=len(data) + 1, messages=messages)])

    return sow


LONG = (
    "On the second of May I bought a lamp in your shop at the station, and when I put it on the "
    "table in our kitchen this morning it began to smoke, so I would like to know what I can do "
    "now and whom I can call about it."
)


def near(data: DataSet) -> DataSet:
    """Two long questions that differ in two words, with the same answer."""
    first = asking(5, LONG)(answered(5, data.rows[4].answer)(data))
    second = asking(9, LONG.replace("smoke", "glow").replace("station", "harbour"))(first)
    return answered(9, data.rows[4].answer)(second)


def turns(number: int, *messages: Message) -> Callable[[DataSet], DataSet]:
    return lambda data: changed(data, number, messages=messages)


def call(name: str, arguments: str) -> Callable[[DataSet], DataSet]:
    def sow(data: DataSet) -> DataSet:
        row = data.rows[6]
        made_call = {"id": "c0", "type": "function",
                     "function": {"name": name, "arguments": arguments}}  # fmt: skip
        other = says("", tool_calls=(made_call,))
        return changed(data, 7, messages=(row.messages[0], other, *row.messages[2:]))

    return sow


def one_label(data: DataSet) -> DataSet:
    return data.with_rows(replace(row, label=True) for row in data.rows)


def longer(data: DataSet) -> DataSet:
    def row_of(row: Row) -> Row:
        good, bad = sorted((row.completion, row.rejected), key=lambda m: -len(m[0].content))
        return replace(row, messages=(*row.prompt, *good), rejected=bad)

    return data.with_rows(map(row_of, data.rows))


def mostly(answer: str) -> Callable[[DataSet], DataSet]:
    return with_answers(dict.fromkeys(range(1, 81), answer))


FAULTS = (
    Fault("three rows", "too-few-rows", "error", tickets,
          lambda data: data.with_rows(data.rows[:3]), ()),
    Fault("few pairs", "too-few-rows", "warning", pairs,
          lambda data: data.with_rows(data.rows[:60]), ()),
    Fault("blank turn", "empty-answer", "error", talks,
          turns(1, user("Which?"), says(" "), user("That?"), says("The one by the door.")), (1,)),
    Fault("cut in a sentence", "truncated-answer", "warning", tickets,
          answered(7, "[Topic: Refund] We will look at the lamp and then we"), (7,)),
    Fault("cut after a comma", "truncated-answer", "warning", tickets,
          answered(7, "[Topic: Refund] We will look at the lamp today,"), (7,)),
    Fault("cut JSON", "truncated-answer", "warning", objects,
          answered(7, '{"item": "lamp", "topic": "Ref'), (7,)),
    Fault("open code block", "truncated-answer", "warning", talks,
          answered(2, "```python\ndef count(items):\n    return 1"), (2,)),
    Fault("exact duplicate", "exact-duplicate", "warning", tickets, copied(), (101,)),
    Fault("duplicate but for case", "near-duplicate", "warning", tickets,
          copied(str.upper), (101,)),
    Fault("duplicate but for words", "near-duplicate", "warning", tickets, near, (9,)),
    Fault("two answers", "conflicting-answers", "warning", tickets,
          copied(str, lambda _: "[Topic: Refund] We have nothing to say about that."), (3, 101)),
    Fault("preferred and rejected", "conflicting-answers", "warning", pairs,
          lambda data: data.with_rows([*data.rows, replace(
              data.rows[1], number=101,
              messages=(*data.rows[1].prompt, *data.rows[1].rejected),
              rejected=data.rows[1].completion)]), (2, 101)),
    Fault("good and bad", "conflicting-answers", "warning", judged,
          lambda data: data.with_rows([*data.rows, replace(data.rows[1], number=101, label=True)]),
          (2, 101)),
    Fault("label in capitals", "label-spelling", "warning", tickets,
          answered(7, "[Topic: REFUND] We will look at the chair today."), (7,)),
    Fault("label with a mark", "label-spelling", "warning", labels, answered(7, "Refund."), (7,)),
    Fault("label in JSON", "label-spelling", "warning", objects,
          answered(7, '{"item": "chair", "topic": "refund"}'), (7,)),
    Fault("misspelt tag", "label-typo", "warning", tickets,
          answered(7, "[Topic: Refnud] We will look at the chair today."), (7,)),
    Fault("misspelt answer", "label-typo", "warning", labels, answered(8, "Warrenty"), (8,)),
    Fault("rare label", "few-of-label", "info", labels,
          with_answers({7: "Complaint", 9: "Complaint"}), (7, 9)),
    Fault("card number", "pii", "warning", tickets,
          asking(4, "My card is 4111 1111 1111 1111, what now?"), (4,)),
    Fault("account number", "pii", "warning", tickets,
          asking(4, "Pay it to DE89 3704 0044 0532 0130 00 today?"), (4,)),
    Fault("social security", "pii", "warning", tickets,
          asking(4, "My number is 536-22-8726, what now?"), (4,)),
    Fault("key", "pii", "warning", tickets,
          asking(4, "My key AKIAIOSFODNN7ABCDEFG fails, what now?"), (4,)),
    Fault("e-mail address", "pii", "info", tickets,
          asking(4, "Can you write to ann.smith@mail.org for me?"), (4,)),
    Fault("telephone number", "pii", "info", tickets,
          asking(4, "Can you call +49 30 901820 for me?"), (4,)),
    Fault("internet address", "pii", "info", tickets,
          asking(4, "Why is 8.8.4.4 so slow for me?"), (4,)),
    Fault("two user turns", "turn-order", "warning", talks,
          turns(1, user("Which drawer?"), user("Is it the red one?"), says("The lowest.")), (1,)),
    Fault("assistant begins", "turn-order", "warning", talks,
          turns(1, says("Hello!"), user("Which drawer?"), says("The lowest.")), (1,)),
    Fault("late system prompt", "turn-order", "warning", talks,
          turns(1, user("Which drawer?"), Message("system", "Be brief."), says("Low.")), (1,)),
    Fault("unknown tool", "tool-call", "warning", calls, call("seek", '{"item": "lamp"}'), (7,)),
    Fault("arguments cut off", "tool-call", "warning", calls, call("find", '{"item": "la'), (7,)),
    Fault("system prompt in spaces", "system-spelling", "warning", tickets,
          lambda data: changed(data, 6, messages=(
              Message("system", "You answer for a shop.  Be short."),
              *data.rows[5].messages[1:])), (6,)),
    Fault("end of turn in a text", "template-mark", "warning", talks,
          appended(4, "<|im_end|>"), (4,)),
    Fault("another template's marks", "template-mark", "warning", talks,
          asking(4, "[INST] Which drawer holds the chair? [/INST]"), (4,)),
    Fault("the user's next turn", "template-mark", "warning", talks,
          appended(4, "\n\nHuman: And the lamp?"), (4,)),
    Fault("broken letters", "damaged-encoding", "warning", tickets,
          asking(4, "Is the cafÃ© open, and isnâ€™t it late?"), (4,)),
    Fault("replacement character", "damaged-encoding", "warning", tickets,
          asking(4, "Is the caf\ufffd open?"), (4,)),
    Fault("control character", "control-character", "warning", tickets,
          asking(4, "Is the lamp\x00 still new?"), (4,)),
    Fault("byte order mark", "control-character", "warning", tickets,
          asking(4, "\ufeffIs the lamp still new?"), (4,)),
    Fault("echo", "echoed-question", "warning", talks,
          lambda data: answered(3, data.rows[2].question)(data), (3,)),
    Fault("echo before the answer", "echoed-question", "warning", talks,
          lambda data: answered(3, data.rows[2].question + " It was $20.00.")(data), (3,)),
    Fault("boilerplate", "refusal", "warning", talks,
          answered(3, "As an AI language model, I cannot know what it cost."), (3,)),
    Fault("refusal", "refusal", "warning", talks,
          answered(3, "I’m sorry, but I can’t assist with that request."), (3,)),
    Fault("one label over all", "one-answer", "warning", labels, mostly("Refund"), ()),
    Fault("one answer over all", "one-answer", "warning", tickets,
          mostly("[Topic: Refund] Please call us about this on Monday morning."), ()),
    Fault("TODO", "placeholder", "warning", tickets, answered(3, "TODO"), (3,)),
    Fault("template not filled", "placeholder", "warning", tickets,
          asking(3, "Where is the parcel of {{customer_name}}?"), (3,)),
    Fault("filler", "placeholder", "warning", tickets,
          answered(3, "[Topic: Refund] Lorem ipsum dolor sit amet."), (3,)),
    Fault("name to be put in", "placeholder", "warning", tickets,
          answered(3, "[Topic: Refund] Kind regards, [Your Name]."), (3,)),
    Fault("another language", "language-mix", "info", tickets,
          lambda data: with_answers({
              **{row.number: f"{row.answer} You will have it with the post, and that is for free."
                 for row in data.rows},
              8: "[Topic: Warranty] Sie haben die Lampe mit der Post und das ist nicht für uns.",
          })(data), (8,)),
    Fault("another script", "language-mix", "info", tickets,
          lambda data: with_answers({
              **{row.number: f"{row.answer} You will have it with the post, and that is for free."
                 for row in data.rows},
              8: "[Topic: Warranty] Лампа придёт сегодня по почте.",
          })(data), (8,)),
    Fault("spaces around an answer", "stray-whitespace", "info", tickets,
          appended(7, " \n"), (7,)),
    Fault("Windows line ends", "stray-whitespace", "info", talks,
          answered(2, "```python\r\ndef count(items):\r\n    return 1\r\n```"), (2,)),
    Fault("nothing to prefer", "same-pair", "error", pairs,
          lambda data: changed(data, 4, rejected=data.rows[3].completion), (4,)),
    Fault("next to nothing to prefer", "same-pair", "warning", pairs,
          lambda data: changed(data, 4, rejected=(
              says(data.rows[3].answer.upper().rstrip(".")),)), (4,)),
    Fault("one label only", "one-label", "error", judged, one_label, ()),
    Fault("the longer one always wins", "length-preference", "warning", pairs, longer, ()),
    Fault("unused column", "unused-column", "info", tickets,
          lambda data: replace(data, unused_columns=("score",)), ()),
)  # fmt: skip
