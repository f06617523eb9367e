"""A small world in which natural language inference can be learnt from nothing in a minute, in MNLI's file layout.

    python examples/quickstart/make_data.py --data_dir outputs/quickstart/data --seed 0

A premise is one event, perhaps with a detail: "A girl sells a cheap violin." A hypothesis is about the event, the
thing, the place, the hour or the topic of the text, and its label follows from what the premise says:

    entailment      by generalisation: "A child sells an instrument.", "The child is outdoors.",
                    "This text is about music."
    contradiction   by antonyms and negation: "A child buys an instrument.", "The instrument is not cheap."
    neutral         by new facts: "A child sells food.", "The instrument is heavy." (nothing said about its weight)

Antonyms, categories and kinds of hypotheses are drawn alike for all three labels, and negations stand in all of them,
so a hypothesis by itself says little about its label. There are three genres, that is, ways to tell the event:
train.tsv and dev_matched.tsv hold the first two, dev_mismatched.tsv the third.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LABELS = ("entailment", "neutral", "contradiction")
COLUMNS = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label"
).split()
FILES = {"train": ("news", "diary"), "dev_matched": ("news", "diary"), "dev_mismatched": ("letter",)}

PEOPLE = {"child": ["boy", "girl"], "worker": ["baker", "nurse"]}
# category -> (its topic, things)
THINGS = {
    "instrument": ("music", ["violin", "guitar"]),
    "meal": ("cooking", ["soup", "pizza"]),
    "vehicle": ("travel", ["train", "bus"]),
}
VERBS = [("buys", "sells"), ("finds", "loses")]
BARE = {"buys": "buy", "sells": "sell", "finds": "find", "loses": "lose"}
ADJECTIVES = [("new", "old"), ("cheap", "expensive")]
PLACES = {"indoors": ["in the kitchen", "in the office"], "outdoors": ["in the garden", "on the beach"]}
TIMES = {"early": ["at dawn", "before breakfast"], "late": ["at midnight", "after dinner"]}
# How often a hypothesis has "not". No entailed one has: that an expensive violin is not cheap takes a negation and
# an antonym at once, and a model that starts from nothing would need minutes more to find that out.
NEGATED = {"entailment": 0.0, "neutral": 0.3, "contradiction": 0.5}


@dataclass(frozen=True)
class Event:
    """What happened. Adjective, place and time are None where the premise is silent about them."""

    person_category: str
    person: str
    verb: str
    thing_category: str
    thing: str
    adjective: str | None
    place_category: str | None
    place: str | None
    time_category: str | None
    time: str | None

    @property
    def topic(self) -> str:
        return THINGS[self.thing_category][0]


def a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def opposite(word: str, pairs: list[tuple[str, str]]) -> str:
    return next(second if word == first else first for first, second in pairs if word in (first, second))


class Grammar:
    """Draws examples; all randomness comes from one generator, so a seed gives the same files everywhere."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def pick(self, options):
        return list(options)[int(self.rng.integers(len(options)))]

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def event(self, adjective: bool, place: bool, time: bool) -> Event:
        person_category, thing_category = self.pick(PEOPLE), self.pick(THINGS)
        place_category, time_category = self.pick(PLACES), self.pick(TIMES)
        return Event(
            person_category=person_category,
            person=self.pick(PEOPLE[person_category]),
            verb=self.pick(self.pick(VERBS)),
            thing_category=thing_category,
            thing=self.pick(THINGS[thing_category][1]),
            adjective=self.pick(self.pick(ADJECTIVES)) if adjective else None,
            place_category=place_category if place else None,
            place=self.pick(PLACES[place_category]) if place else None,
            time_category=time_category if time else None,
            time=self.pick(TIMES[time_category]) if time else None,
        )

    def premise(self, event: Event, genre: str) -> str:
        thing = a(f"{event.adjective} {event.thing}" if event.adjective else event.thing)
        core = f"{a(event.person)} {event.verb} {thing}"
        place, time = event.place, event.time
        if genre == "news":  # A girl sells a cheap violin in the garden at dawn.
            words = [core, place, time]
        elif genre == "diary":  # Today at dawn a girl sells a cheap violin in the garden.
            words = ["today", time, core, place]
        else:  # Today a girl sells a cheap violin in the garden at dawn.
            words = ["today", core, place, time]
        text = " ".join(word for word in words if word) + "."
        return text[0].upper() + text[1:]

    def example(self, label: str, genre: str) -> tuple[str, str]:
        """A premise of `genre` and a hypothesis for which `label` is true."""
        # No text is neutral about its own topic, so topics are left to the other two labels.
        kinds = ["event", "event", "thing", "place", "time"] + ["topic"] * (label != "neutral")
        kind, neutral = self.pick(kinds), label == "neutral"
        said = dict.fromkeys(("thing", "place", "time"), False)
        if kind in said:
            # Silence about the very detail that the hypothesis names makes it neutral; so do other adjectives.
            said[kind] = not neutral or (kind == "thing" and self.chance())
        event = self.event(said["thing"], said["place"], said["time"])
        # `same`: the hypothesis names the event's own verb or detail, not its opposite; a negation denies it.
        negated = self.chance(NEGATED[label])
        same = self.chance() if neutral else label == "entailment" or negated
        return self.premise(event, genre), getattr(self, f"about_{kind}")(event, neutral, same, negated)

    def about_event(self, event: Event, neutral: bool, same: bool, negated: bool) -> str:
        verb = event.verb if same else opposite(event.verb, VERBS)
        category = event.thing_category
        if neutral:
            category = self.pick([other for other in THINGS if other != category])
        does = f"does not {BARE[verb]}" if negated else verb
        return f"A {event.person_category} {does} {a(category)}."

    def about_thing(self, event: Event, neutral: bool, same: bool, negated: bool) -> str:
        if neutral:
            adjective = self.pick(self.pick([pair for pair in ADJECTIVES if event.adjective not in pair]))
        else:
            adjective = event.adjective if same else opposite(event.adjective, ADJECTIVES)
        return f"The {event.thing_category} is {'not ' * negated}{adjective}."

    def about_place(self, event: Event, neutral: bool, same: bool, negated: bool) -> str:
        place = self.pick(PLACES) if neutral else event.place_category
        place = place if same else opposite(place, [tuple(PLACES)])
        return f"The {event.person_category} is {'not ' * negated}{place}."

    def about_time(self, event: Event, neutral: bool, same: bool, negated: bool) -> str:
        time = self.pick(TIMES) if neutral else event.time_category
        time = time if same else opposite(time, [tuple(TIMES)])
        return f"It is {'not ' * negated}{time}."

    def about_topic(self, event: Event, neutral: bool, same: bool, negated: bool) -> str:
        others = [topic for topic, _ in THINGS.values() if topic != event.topic]
        topic = event.topic if same else self.pick(others)
        return f"This text is {'not ' * negated}about {topic}."


def make_examples(sizes: dict[str, int], seed: int = 0) -> dict[str, list[tuple[str, str, str, str]]]:
    """file name -> rows of (genre, premise, hypothesis, label). No pair of sentences comes twice in all of them."""
    grammar, seen = Grammar(seed), set()
    files: dict[str, list[tuple[str, str, str, str]]] = {}
    # The development files come first: they stay the same when the training file grows.
    for name in ("dev_matched", "dev_mismatched", "train"):
        rows = files[name] = []
        tries = 0
        while len(rows) < sizes[name]:
            tries += 1
            if tries > 50 * sizes[name]:
                raise SystemExit(f"{name}: the grammar has no {sizes[name]} different pairs; ask for fewer rows")
            label, genre = LABELS[len(rows) % 3], grammar.pick(FILES[name])
            pair = grammar.example(label, genre)
            if pair not in seen:
                seen.add(pair)
                rows.append((genre, *pair, label))
        rows[:] = [rows[index] for index in grammar.rng.permutation(len(rows))]
    return files


def write_data(folder: Path, sizes: dict[str, int], seed: int = 0) -> None:
    """train.tsv, dev_matched.tsv and dev_mismatched.tsv with MNLI's columns; its parses are left blank."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in make_examples(sizes, seed).items():
        lines = ["\t".join(COLUMNS)]
        for index, (genre, premise, hypothesis, label) in enumerate(rows):
            ids = [str(index), str(index), f"{index}{label[0]}", genre]
            row = [*ids, "", "", "", "", premise, hypothesis, label, label]
            lines.append("\t".join(row))
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


SIZES = {"train": 6000, "dev_matched": 600, "dev_mismatched": 600}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, metavar="ROWS")
    args = parser.parse_args()
    write_data(args.data_dir, {name: getattr(args, name) for name in SIZES}, args.seed)
    print(f"{args.data_dir}: " + ", ".join(f"{name}.tsv {getattr(args, name)} rows" for name in SIZES))


if __name__ == "__main__":
    main()
