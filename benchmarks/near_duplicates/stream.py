"""Sayings with known repetitions: made sentences, edits that keep what they say, and edits that change it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

NAMES = [
    "Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas",
    "Karin", "Luis", "Maria", "Nora", "Oscar", "Paula",
]  # fmt: skip
PLACES = [
    "Lisbon", "Porto", "Vienna", "Oslo", "Madrid", "Dublin", "Krakow", "Lyon", "Ghent", "Turin",
    "Bergen", "Graz", "Malaga", "Bristol",
]  # fmt: skip
SUBJECTS = [
    "I", "We", "My sister", "My brother", "My neighbour", "Our landlord", "The doctor", "My manager",
    "A colleague", "My daughter", "The teacher", "Our trainer",
]  # fmt: skip
DEEDS = [
    "bought a wooden table", "repaired the blue bicycle", "booked a flight", "cancelled the gym membership",
    "planted tomatoes behind the house", "started a pottery course", "finished the quarterly presentation",
    "moved into a bigger apartment", "adopted a grey kitten", "painted the kitchen yellow",
    "sold the electric guitar", "learned to bake sourdough bread", "visited the natural history museum",
    "ordered a standing desk", "ran the charity marathon", "wrote a letter to the insurance company",
    "lost the spare keys", "changed the dentist appointment", "recommended the vegetarian restaurant",
    "returned the library books", "watched a documentary about whales", "installed a heat pump",
    "signed the rental agreement", "prepared the birthday breakfast",
]  # fmt: skip
REASONS = [
    "because the old one was broken", "after a very long week", "since the weather was wonderful",
    "although it was rather expensive", "before the holidays begin", "while the children were at school",
    "to save some money", "as a present for the anniversary", "because the doctor recommended it",
    "so that everybody could relax", "when the renovation was complete", "in spite of the heavy rain",
]  # fmt: skip
DETAILS = [
    "It took the whole afternoon", "Everybody was surprised", "The neighbours were helpful",
    "It felt like a fresh beginning", "The instructions were complicated", "There was plenty of coffee",
    "The shop was remarkably crowded", "It reminded me of my childhood",
]  # fmt: skip
DAYS = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
]  # fmt: skip


def sentence(rng: random.Random) -> str:
    """Return a saying of 12 to 35 words with a number, a name and a place."""
    text = (
        f"{rng.choice(SUBJECTS)} {rng.choice(DEEDS)} with {rng.choice(NAMES)} in {rng.choice(PLACES)} on "
        f"{rng.choice(DAYS)} the {rng.randrange(1, 29)}th {rng.choice(REASONS)}."
    )
    for detail in rng.sample(DETAILS, rng.randrange(3)):
        text += f" {detail}."
    return text


def _swap_letters(text: str, rng: random.Random, least: int, most: int) -> str:
    """Swap two inner letters that differ, in a word of some length that is no name."""
    words = [
        found
        for found in re.finditer(r"\b[a-z]+\b", text)
        if least <= len(found[0]) <= most and len(set(found[0][1:-1])) > 1
    ]
    if not words:
        return text
    word = rng.choice(words)
    at = rng.choice([i for i in range(word.start() + 1, word.end() - 2) if text[i] != text[i + 1]])
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _fill(text: str, rng: random.Random) -> str:
    opening = rng.choice(["Well, just", "Oh,", "Hey, so", "Okay,", "Actually,", "Yeah,", "Um,"]).removeprefix(
        "Well, "
    )
    body = text if text.startswith("I ") else text[0].lower() + text[1:]
    return f"{opening} {body}".capitalize()[:1] + f"{opening} {body}"[1:]


def _replace_word(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{old}\b", new, text, count=1)


def _another(text: str, words: list[str], rng: random.Random) -> str:
    (old,) = rng.sample([word for word in words if re.search(rf"\b{word}\b", text)], 1)
    return _replace_word(text, old, rng.choice([word for word in words if word not in text]))


def _other_number(text: str, rng: random.Random) -> str:
    return re.sub(r"\d+", lambda found: str(int(found[0]) % 28 + 1), text, count=1)


def _other_thing(text: str, rng: random.Random) -> str:
    deed = next(deed for deed in DEEDS if deed in text)
    return text.replace(deed, rng.choice([other for other in DEEDS if other != deed]))


def _swap_names(text: str, rng: random.Random) -> str:
    subject, name = rng.sample(NAMES, 2)
    return f"{subject} and {name}: {text}"


def _negate(text: str, rng: random.Random) -> str:
    return text.replace(" with ", " without ", 1)


def _ask(text: str, rng: random.Random) -> str:
    return text[:-1] + "?"


def _one_word_more(text: str, rng: random.Random) -> str:
    return text.replace(
        " with ", f" {rng.choice(['together', 'yesterday', 'reluctantly', 'twice'])} with ", 1
    )


def _synonym(text: str, rng: random.Random) -> str:
    for old, new in (
        ("bought", "purchased"), ("finished", "completed"), ("started", "began"), ("repaired", "fixed"),
        ("bigger", "larger"), ("because", "since"), ("visited", "went to"), ("although", "though"),
        ("to save", "to spare"), ("while", "as"),
        ("after", "following"), ("when", "once"), ("before", "until"),
    ):  # fmt: skip
        if re.search(rf"\b{old}\b", text):
            return _replace_word(text, old, new)
    return "By the way, " + text


def _reorder(text: str, rng: random.Random) -> str:
    found = re.match(r"(.*?) (with \w+) (in \w+) (on \w+ the \w+)(.*)", text, re.S)
    assert found
    return f"{found[1]} {found[4]} {found[3]} {found[2]}{found[5]}"


Edit = Callable[[str, random.Random], str]

KEEPS: dict[str, Edit] = {
    "punctuation and case": lambda text, rng: (
        text.upper().replace(".", " !")
        if rng.random() < 0.3
        else text.replace(".", ";").replace(" on ", ", on ")
    ),
    "filler words": _fill,
    "typo in a word of 8 letters or more": lambda text, rng: _swap_letters(text, rng, 8, 30),
    "typo in a shorter word": lambda text, rng: _swap_letters(text, rng, 4, 7),
    "phrases in another order": _reorder,
    "another word for the same": _synonym,
}
"""Edits after which a reader would say that it is the same, and is said again."""

CHANGES: dict[str, Edit] = {
    "another number": _other_number,
    "another name": lambda text, rng: _another(text, NAMES, rng),
    "another place": lambda text, rng: _another(text, PLACES, rng),
    "another day": lambda text, rng: _another(text, DAYS, rng),
    "negated": _negate,
    "asked": _ask,
    "another thing": _other_thing,
    "one word more": _one_word_more,
    "names put before": _swap_names,
}
"""Edits after which it says something else."""


@dataclass(frozen=True)
class Said:
    """One saying; `meaning` is equal in those that say the same, `edit` is how it was made."""

    user_id: str
    content: str
    meaning: int
    edit: str


def labelled(count: int, seed: int) -> Iterator[Said]:
    """Yield sayings: in each group a sentence, some that keep its meaning, some that do not."""
    rng = random.Random(seed)  # noqa: S311  (nothing secret)
    made, meaning = 0, 0
    while made < count:
        user = f"user {rng.randrange(20)}"
        text = sentence(rng)
        meaning += 1
        group = [Said(user, text, meaning, "first")]
        group.extend(Said(user, KEEPS[edit](text, rng), meaning, edit) for edit in rng.sample(list(KEEPS), 2))
        for edit in rng.sample(list(CHANGES), 2):
            meaning += 1
            group.append(Said(user, CHANGES[edit](text, rng), meaning, edit))
        yield from group
        made += len(group)


def many(count: int, seed: int) -> Iterator[Said]:
    """Yield sayings of 100 users, one in ten of them an edit of an earlier one."""
    rng = random.Random(seed)  # noqa: S311  (nothing secret)
    earlier: list[Said] = []
    for number in range(count):
        if earlier and rng.random() < 0.1:
            said = rng.choice(earlier)
            edit = rng.choice(list(KEEPS))
            yield Said(said.user_id, KEEPS[edit](said.content, rng), said.meaning, edit)
        else:
            said = Said(f"user {rng.randrange(100)}", sentence(rng), number, "first")
            earlier.append(said)
            yield said
