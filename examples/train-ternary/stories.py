"""An endless, seeded stream of short stories for small children, told from grammar.txt.

    python stories.py --seed 7 --count 3            print stories
    python stories.py --heldout --count 200         other seeds, and combinations never trained on

A story is a dict: text (with its "Words:" line when it has one), hero, names, words, plot, bits.
bits is log2 of the choices made on the way: an upper bound on what a perfect model must pay.
"""
import argparse, json, math, random, re
from pathlib import Path

GIRLS = "Anna Emma Lucy Mia Zoe Nora Ella Clara Julia Maya Alice Sophie Nina Lena Tara Molly Hanna Betty Dora Rita".split()
BOYS = "Tom Ben Max Sam Leo Tim Finn Noah Oscar Felix Hugo Peter Paul Adam David Oliver Simon Toby Henry Luke".split()
NAMES = set(GIRLS + BOYS)
GROWN_UPS = [("Mom", "f"), ("Dad", "m"), ("Grandma", "f"), ("Grandpa", "m")]
PRONOUNS = {"f": dict(he="she", him="her", his="her", himself="herself"),
            "m": dict(he="he", him="him", his="his", himself="himself")}
PLACES = {p: f"{w} the {p}" for w, ps in {
    "in": "park garden forest meadow field yard orchard", "at": "beach pond river lake market", "on": "hill"}.items() for p in ps.split()}

# Heroes that these plots never have in training: the held-out set shows whether the model can combine.
UNSEEN = {"planting a seed": {"fox", "owl", "lion"}, "sharing": {"bear", "frog", "penguin"}, "the race": {"turtle", "mouse", "deer"},
          "baking": {"duck", "goat", "otter"}, "the treasure map": {"cat", "pig", "monkey"}}

# What a "Words:" line may ask for: values of these slots, the first three more often.
ASKED = "kind trait thing kind trait thing kind trait thing toy food snack sight creature wear color weather place flower hobby monster".split()


SLOT = re.compile(r"\{([^{}]*)\}")


def parse(text):
    """'a [b|c] {x}' -> ['a ', ('choice', [...]), ('slot', 'x')]"""
    def walk(i, nested):
        alternatives, parts = [], []
        while i < len(text):
            c = text[i]
            if c == "[":
                choice, i = walk(i + 1, True)
                parts.append(("choice", choice))
            elif nested and c in "|]":
                alternatives.append(parts)
                parts = []
                i += 1
                if c == "]":
                    return alternatives, i
            elif c == "{":
                end = text.index("}", i)
                parts.append(("slot", text[i + 1:end]))
                i = end + 1
            else:
                end = min([k for k in (text.find(m, i) for m in "[{|]") if k >= 0], default=len(text))
                parts.append(text[i:end])
                i = end
        return parts, i
    return walk(0, False)[0]


# A telling that could have begun otherwise does not begin with the bare name: what comes is told by a word before it.
LEADS = {who: [parse(t) for t in leads] for who, leads in
         {"start": ["Now {h}", "{He}"], "h": ["Then {h}", "So {h}", "And {h}", "{He}"], "f": ["Now {f}", "Soon {f}", "And {f}"]}.items()}


class Grammar:
    def __init__(self, path=Path(__file__).with_name("grammar.txt")):
        self.lists, self.macros, self.parts, self.plots, self.limits = {}, {}, {}, {}, {}
        steps = None
        for line in path.read_text().splitlines():
            head, _, rest = line.partition(" ")
            if not line.strip() or line[0] == "#":
                continue
            if head in ("list", "macro", "with"):
                name, value = rest.split(": ", 1)
                if head == "macro":
                    self.macros[name.lower()] = parse(value)
                elif head == "list":
                    self.lists[name] = value.split(", ")
                else:
                    self.limits[plot] = {name: value.split(", ")}
            elif head in ("part", "plot"):
                plot = rest
                steps = (self.parts if head == "part" else self.plots).setdefault(rest, [])
            elif line.rstrip() in ("-", "-?"):
                steps.append((line.rstrip() == "-?", []))
            else:
                steps[-1][1].append(parse(line))


class Story:
    """One telling: draws values for slots as they come up and keeps them."""

    def __init__(self, grammar, rng, heldout):
        self.g, self.rng, self.bits, self.values, self.out = grammar, rng, 0.0, {}, []
        self.quotes, self.friend_known = 0, False
        animals = grammar.lists["animalkind"]
        while True:
            self.bits = 0.0
            self.plot = self.pick(list(grammar.plots))
            hero_is_child = self.pick([True, False])
            sex = self.pick("fm")
            hero = self.pick(GIRLS if sex == "f" else BOYS)
            kind = {"f": "girl", "m": "boy"}[sex] if hero_is_child else self.pick(animals)
            unseen = kind in UNSEEN.get(self.plot, ())
            if unseen == heldout:
                break
        friend_sex = {"f": "m", "m": "f"}[sex]          # so that "he" and "she" are always clear
        friend = self.pick(GIRLS if friend_sex == "f" else BOYS)
        friend_kind = {"f": "girl", "m": "boy"}[friend_sex] if hero_is_child and self.pick([1, 1, 1, 0]) else self.pick([a for a in animals if a != kind])
        grown_up, grown_sex = self.pick([g for g in GROWN_UPS if g[1] == friend_sex])
        self.friend = friend
        self.values.update(h=hero, kind=kind, fkind=friend_kind, g=grown_up, g_s=grown_up + "'s", **PRONOUNS[sex])
        self.values.update({"f" + k: v for k, v in PRONOUNS[friend_sex].items()})
        self.values.update({"g" + k: v for k, v in PRONOUNS[grown_sex].items()})
        self.asked = self.ask() if self.pick([True, False]) else []
        self.tell()

    def pick(self, options):
        choice = options[int(self.rng.random() * len(options))]
        self.bits += math.log2(len(options) / options.count(choice))
        return choice

    def ask(self):
        """Three slots whose values are asked for. They are drawn here and told at once, so the line decides them."""
        slots = []
        while len(slots) < 3:
            slot = self.pick(ASKED)
            if slot not in slots and " " not in self.draw(slot) and self.values[slot] not in [self.values[s] for s in slots]:
                slots.append(slot)
        return slots

    def draw(self, slot):
        """The value of a slot, chosen at its first use."""
        if slot not in self.values:
            name = slot.rstrip("0123456789")
            options = self.g.limits.get(self.plot, {}).get(name) or self.g.lists[name]
            taken = {v for k, v in self.values.items() if k.rstrip("0123456789") == name or name == "animalkind"}
            self.values[slot] = self.pick([o for o in options if o not in taken])
        return self.values[slot]

    def introduce_friend(self):
        f, kind = self.friend, self.values["fkind"]
        if self.friend_known or self.quotes % 2:        # in somebody's speech a name is enough
            self.friend_known = True
            return f
        self.friend_known = True
        his = self.values["his"]
        return self.pick([f"{his} friend {f}", f"{his} friend {f}", f"a {kind} named {f}"] if kind in ("girl", "boy")
                         else [f"{his} friend {f}", f"{f} the {kind}", f"a {kind} named {f}", f"{his} friend {f} the {kind}"])

    def value(self, slot):
        low = slot.lower()
        if low in self.g.macros:
            before = len(self.out)
            self.expand(self.g.macros[low])
            text = "".join(self.out[before:])
            del self.out[before:]
            self.quotes -= text.count('"')              # counted again when the caller writes it
            if slot == "one":
                text = text[0].lower() + text[1:]
        elif low == "f!":
            self.friend_known, text = True, self.friend
        elif low in ("friend", "f"):
            text = self.introduce_friend()
        elif low == "friend_s":
            text = self.introduce_friend() + "'s"
        elif low in ("at", "to"):
            place = self.value("place")
            text = PLACES[place] if low == "at" else f"to the {place}"
        else:
            text = self.draw(low)
        return text[0].upper() + text[1:] if slot[0].isupper() else text

    def write(self, text):
        self.out.append(text)
        self.quotes += text.count('"')

    def expand(self, parts):
        for part in parts:
            if isinstance(part, str):
                self.write(part)
            elif part[0] == "slot":
                self.write(self.value(part[1]))
            else:
                self.expand(self.pick(part[1]))

    def step(self, tellings, start=False):
        self.quotes = 0
        telling = self.pick(tellings)
        openings = {t[0][1] if t[0][0] == "slot" else "" for t in tellings}
        who = telling[0][1].lower().replace("friend", "f") if telling[0][0] == "slot" else ""
        if len(openings) > 1 and (who == "h" and self.out or who == "f" and self.friend_known):
            leads = LEADS["start" if start and who == "h" else who]
            plain = telling[1].startswith((" and ", "'s"))      # "He and" sounds odd
            self.expand(self.pick(leads[:-1] if plain and who == "h" else leads))
            telling = telling[1:]
        self.expand(telling)
        self.write(" ")

    def tell(self):
        parts, plot = self.g.parts, self.g.plots[self.plot]
        self.step(parts["opening"][0][1])
        for slot in self.asked:
            if slot not in ("kind", "trait"):
                self.step(parts[f"asked {slot}"][0][1])
        if not self.asked and self.pick([True, True, False]):
            self.step(parts["scene"][0][1])
        strangers = any(("slot", "f!") in telling for _, tellings in plot for telling in tellings)
        if not strangers and self.pick([True, False]):
            self.friend_known = True
            self.step(parts["friendship"][0][1])
        aside = self.pick([1, 2, None, None])      # where a sentence beside the plot stands
        for i, (optional, tellings) in enumerate(plot):
            if i == aside and i < len(plot) - 1:
                self.step(parts["aside"][0][1])
            if not optional or self.pick([True, False]):
                self.step(tellings, start=i == 0)
        if self.pick([True, False]):
            self.step(parts["ending"][0][1])
        text = "".join(self.out).strip()
        text = re.sub(r"  +", " ", text)
        self.text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU]|honest)(?!one\b|use)", r"\1n ", text)


def stories(seed, heldout=False, grammar=None):
    """The stream. heldout: the combinations that training never sees; for others take another seed."""
    grammar, rng = grammar or Grammar(), random.Random(seed)
    while True:
        s = Story(grammar, rng, heldout)
        if not 80 <= len(s.text.split()) <= 250:
            continue
        words = [s.values[slot] for slot in s.asked]
        head = f"Words: {', '.join(words)}\n" if words else ""
        names = [s.values["h"]] + [n for n in [s.friend] if n in s.text]
        yield dict(text=head + s.text, hero=s.values["h"], names=names, words=words, plot=s.plot, kind=s.values["kind"], bits=s.bits)


HELD_OUT_SEED = 1_000_003      # no training run uses a seed from here on


def heldout(count, grammar=None):
    """Three stories of seen combinations from unseen seeds, then one of an unseen combination."""
    seen, unseen = stories(HELD_OUT_SEED, False, grammar), stories(HELD_OUT_SEED + 1, True, grammar)
    return [next(unseen if i % 4 == 3 else seen) for i in range(count)]


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--count", type=int, default=3)
    args.add_argument("--heldout", action="store_true")
    args.add_argument("--json", action="store_true", help="one JSON object a line")
    a = args.parse_args()
    stream = heldout(a.count) if a.heldout else (s for s, _ in zip(stories(a.seed), range(a.count)))
    for s in stream:
        print(json.dumps(s) if a.json else s["text"] + "\n")
