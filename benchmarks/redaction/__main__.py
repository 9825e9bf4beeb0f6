"""What redaction finds: in real conversations, where it should find little, and of secrets that were planted.

`python -m benchmarks.redaction [FOLDER OF DATA]` prints the tables of docs/redaction.md. The first shows each
distinct finding too with --show, to be judged by a person.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stdnum import iban, luhn

from mnemoduck.redaction import find_secrets

PROJECT = Path(__file__).resolve().parents[2]
FILES = ("locomo_dev.json", "longmemeval_s_dev.json.gz", "agent_episodes_dev.jsonl.gz")
PLANTED = 500

_LETTERS = string.ascii_letters + string.digits


def _some(random_: random.Random, length: int, signs: str = _LETTERS) -> str:
    return "".join(random_.choices(signs, k=length))


def _card(random_: random.Random) -> str:
    digits = random_.choice(("4", "51", "55", "2221", "6011")) + _some(random_, 11, string.digits)
    digits = (digits + _some(random_, 15, string.digits))[:15]
    digits += luhn.calc_check_digit(digits)
    groups = [digits[place : place + 4] for place in range(0, 16, 4)]
    return random_.choice(("", " ", "-")).join(groups)


def _iban(random_: random.Random) -> str:
    number = "DE00" + _some(random_, 18, string.digits)
    number = "DE" + iban.calc_check_digits(number) + number[4:]
    return random_.choice((number, iban.format(number)))


def _email(random_: random.Random) -> str:
    name = ".".join(_some(random_, random_.randint(2, 8), string.ascii_lowercase) for _ in range(2))
    host = _some(random_, 6, string.ascii_lowercase)
    return f"{name}@{host}.{random_.choice(('com', 'co.uk', 'io', 'museum'))}"


SECRETS: dict[str, Callable[[random.Random], str]] = {
    "aws-key": lambda r: "AKIA" + _some(r, 16, string.ascii_uppercase + string.digits),
    "github-token": lambda r: r.choice(
        ("ghp_" + _some(r, 36), "github_pat_" + _some(r, 22) + "_" + _some(r, 59))
    ),
    "gitlab-token": lambda r: "glpat-" + _some(r, 20),
    "slack-token": lambda r: (
        "xoxb-" + _some(r, 12, string.digits) + "-" + _some(r, 24, string.hexdigits.lower())
    ),
    "stripe-key": lambda r: "sk_live_" + _some(r, 24),
    "openai-key": lambda r: "sk-proj-" + _some(r, 48),
    "anthropic-key": lambda r: "sk-ant-api03-" + _some(r, 80),
    "google-key": lambda r: "AIza" + _some(r, 35),
    "jwt": lambda r: "eyJ" + _some(r, 30) + ".eyJ" + _some(r, 60) + "." + _some(r, 43),
    "bearer-token": lambda r: "Bearer " + _some(r, 31) + "7",
    "private-key": lambda r: (
        f"-----BEGIN PRIVATE KEY-----\n{_some(r, 64)}\n{_some(r, 64)}\n-----END PRIVATE KEY-----"
    ),
    "password-in-url": lambda r: f"postgres://app:{_some(r, 16)}@db/app",
    "email": _email,
    "card": _card,
    "iban": _iban,
}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _read(path: Path) -> Any:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in data.splitlines()]
    return json.loads(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--show", action="store_true", help="show what was found")
    arguments = parser.parse_args()
    print("| texts | number | characters | found | distinct |\n|---|--:|--:|---|--:|")
    sentences: list[str] = []
    for path in (PROJECT / "seeds" / "sample_stream.jsonl", *(arguments.data / name for name in FILES)):
        if not path.exists():
            print(f"| {path.name} | is not there | | | |")
            continue
        texts = list(_texts(_read(path)))
        sentences += [text for text in texts if 20 < len(text) < 200][:5000]
        counts: Counter[str] = Counter()
        found: defaultdict[str, set[str]] = defaultdict(set)
        for text in texts:
            for one in find_secrets(text):
                counts[one.kind] += 1
                found[one.kind].add(text[one.start : one.end])
        said = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()) or "nothing"
        distinct = sum(map(len, found.values()))
        print(f"| {path.name} | {len(texts):,} | {sum(map(len, texts)):,} | {said} | {distinct:,} |")
        if arguments.show:
            for kind, values in found.items():
                print(f"  {kind}: {sorted(values)}")
    print(f"\n| planted, {PLANTED} each | found, and nothing beside it |\n|---|--:|")
    random_ = random.Random(7)  # noqa: S311
    for kind, make in SECRETS.items():
        right = 0
        for _ in range(PLANTED):
            before, after = random_.choice(sentences), random_.choice(sentences)
            secret = make(random_)
            text = f"{before} {secret} {after}"
            found_here = [text[one.start : one.end] for one in find_secrets(text, {_family(kind)})]
            bare = secret.removeprefix("Bearer ").removeprefix("postgres://app:").removesuffix("@db/app")
            right += found_here.count(bare) == 1 and len(found_here) == 1 + len(
                [*find_secrets(before, {_family(kind)}), *find_secrets(after, {_family(kind)})]
            )
        print(f"| {kind} | {right / PLANTED:.1%} |")


def _family(kind: str) -> str:
    return kind if kind in ("email", "card", "iban") else "token"


if __name__ == "__main__":
    main()
