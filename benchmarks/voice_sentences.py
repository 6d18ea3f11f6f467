"""Sentences for a voice: verses of a public-domain text, and sentences of our own with names, numbers and questions."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from catalog.command import JobError

VERSES = "ge1:1-re22:21"
LETTERS = (20, 160)
"""Of a line that is said: about 2 to 10 s."""
OWN_EVERY = 3
"""One of so many sentences is our own."""
WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split("|"))
    for name, words in {
        "name": (
            "Anna|Bernard|Charlotte|Diego|Edith|Farouk|George|Hannah|Ivan|Julia|Kenji|Laura|Marcus|"
            "Nadia|Oscar|Priya|Quentin|Rosa|Samuel|Theresa|Ulrich|Vera|Walter|Yvonne|Zachary|"
            "Doctor Huang|Miss Fletcher|Mister Joyce"
        ),
        "place": (
            "Boston|Geneva|Oxford|Chicago|Lisbon|the harbour|the old mill|Maple Street|"
            "the north valley|the airport|a village above the lake|the county court|the fourth floor|"
            "Vancouver|the usual corner|her cousin's orchard"
        ),
        "thing": (
            "umbrella|violin|green bicycle|broken clock|jar of honey|wool jacket|copper kettle|"
            "letter|camera|wooden bridge|fishing boat|chessboard|yellow envelope|laptop|"
            "measuring tape|guitar|bowl of soup|heavy trunk|pair of gloves|white fox|toolbox|"
            "newspaper|treasure map|thermometer"
        ),
        "did": (
            "found|borrowed|painted|forgot|measured|carried|photographed|repaired|bought|dropped|"
            "wrapped|hid|described|polished|returned|examined|threw away|watched over"
        ),
        "day": (
            "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|this afternoon|before dawn|"
            "last August|in February|on the third of June|at noon|two weeks ago"
        ),
        "how": (
            "quietly|without a word|in a great hurry|with both hands|by mistake|as usual|"
            "rather badly|for the first time|though it was raining|because nobody else would|"
            "while the others slept"
        ),
        "mood": "tired|cheerful|suspicious|nervous|proud|thirsty|awfully sorry|furious|curious|sure of it",
        "why": (
            "the snow had covered the path|the engine would not start|their watch was slow|"
            "we had missed the ferry|he knew the judge|she could hear voices outside|"
            "the bread was still warm|a wolf had been seen|the tide was turning"
        ),
    }.items()
}
TEMPLATES = (
    "{name} {did} the {thing} {how}.",
    "{day}, {name} {did} a {thing} near {place}.",
    "Did {name} really go to {place} {how}?",
    "Where is the {thing} that {name} {did}?",
    "It was {number} degrees in {place}, and {name} was {mood}.",
    "Please bring {number} boxes and one {thing} to {place}.",
    "{name} paid {number} dollars for the {thing}, because {why}.",
    "Why were you so {mood}, {name}?",
    "The train to {place} leaves at {hour} {minute} from platform {few}.",
    '"I {did} it myself," said {name}, {how}.',
    "They had been {mood} ever since {why}.",
    "Call {name} on extension {number} if the {thing} is missing.",
    "In {year}, only {number} people lived around {place}.",
    "Would you rather keep the {thing}, or the {other}?",
    "{name} and {friend} shook hands; {why}.",
    "Nobody at {place} believed that {name} {did} the {thing}.",
    "Turn left after {place}, then walk {few} miles.",
    "He gave {name} a {thing}, a {other} and {number} coins.",
    "How many of the {number} chairs were painted by {name}?",
    "Although {why}, {name} stayed at {place} until {day}.",
)


def sentences(given: Path | None) -> Iterator[str]:
    """Distinct sentences in a fixed order. `given` has one a line; without it, verses by Debian's bible-kjv."""
    lines = list(dict.fromkeys(_verses() if given is None else _lines(given)))
    random.Random(0).shuffle(lines)
    own = _own()
    for at, line in enumerate(lines, 1):
        yield line
        if at % (OWN_EVERY - 1) == 0:
            yield next(own)


def _lines(given: Path) -> list[str]:
    least, most = LETTERS
    lines = [" ".join(line.split()) for line in given.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if least <= len(line) <= most]
    if not found:
        raise JobError(f"{given} has no line of {least} to {most} characters")
    return found


def _verses() -> list[str]:
    program = shutil.which("bible")
    if program is None:
        raise JobError("the program `bible` (Debian: bible-kjv) is not installed; or give --sentences FILE")
    said = subprocess.run([program, "-f", VERSES], capture_output=True, text=True, check=True).stdout
    verses = [re.sub(r"^\S+ ", "", line).replace("LORD", "Lord").strip() for line in said.splitlines()]
    return [verse for verse in verses if LETTERS[0] <= len(verse) <= LETTERS[1]]


def _own() -> Iterator[str]:
    """Endless, without repeats."""
    draw, known = random.Random(1), set[str]()
    while True:
        words = {name: draw.choice(choices) for name, choices in WORDS.items()}
        words |= {"friend": draw.choice(WORDS["name"]), "other": draw.choice(WORDS["thing"])}
        words |= {"number": str(draw.randint(2, 990)), "few": str(draw.randint(2, 19))}
        words |= {"hour": str(draw.randint(1, 12)), "minute": str(draw.randint(11, 59))}
        words["year"] = str(draw.randint(1701, 2019))
        line = draw.choice(TEMPLATES).format(**words)
        line = line[0].upper() + line[1:]
        if line not in known:
            known.add(line)
            yield line
