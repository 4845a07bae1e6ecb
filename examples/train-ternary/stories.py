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

# Words too plain to be asked for.
PLAIN = set("""about after again alone along also always another anyone anything around asked away back because been before began behind
being best better both broke brought called came cannot come could cried deep does done down each else even ever every everybody everyone
everything fell felt first found from gave give given goes going gone good grew have hear heard help helped here hers herself himself hold
into just keep kept knew know known last lay left like liked little lived long look looked looking made make many maybe mine more most much
must name named near need needed nearly never next nobody none nothing once only open opened other others over pulled really said same saw
seemed should some somebody something soon started still stood such sure than that the their them then there these they thing this those
thought three through time times took told together touched tried turned under until very wait walked want wanted was well went were what
when where which while will with without worked would wrong year your you yours says such went took hers today than onto ever upon shall""".split())

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
            hero, sex = self.name(())
            kind = {"f": "girl", "m": "boy"}[sex] if hero_is_child else self.pick(animals)
            unseen = kind in UNSEEN.get(self.plot, ())
            if unseen == heldout:
                break
        friend, friend_sex = self.name((hero,))
        friend_kind = {"f": "girl", "m": "boy"}[friend_sex] if hero_is_child and self.pick([1, 1, 1, 0]) else self.pick([a for a in animals if a != kind])
        grown_up, grown_sex = self.pick(GROWN_UPS)
        self.friend = friend
        self.values.update(h=hero, kind=kind, fkind=friend_kind, g=grown_up, g_s=grown_up + "'s", **PRONOUNS[sex])
        self.values.update({"f" + k: v for k, v in PRONOUNS[friend_sex].items()})
        self.values.update({"g" + k: v for k, v in PRONOUNS[grown_sex].items()})
        self.slots_used = {kind}
        self.tell()

    def pick(self, options):
        self.bits += math.log2(len(options))
        return options[int(self.rng.random() * len(options))]

    def name(self, taken):
        sex = self.pick("fm")
        return self.pick([n for n in (GIRLS if sex == "f" else BOYS) if n not in taken]), sex

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
            if low not in self.values:
                name = low.rstrip("0123456789")
                options = self.g.limits.get(self.plot, {}).get(name) or self.g.lists[name]
                taken = {v for k, v in self.values.items() if k.rstrip("0123456789") == name or name == "animalkind"}
                self.values[low] = self.pick([o for o in options if o not in taken])
            text = self.values[low]
            if low.rstrip("0123456789") in self.g.lists and " " not in text:
                self.slots_used.add(text)
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

    def step(self, tellings):
        self.quotes = 0
        self.expand(self.pick(tellings))
        self.write(" ")

    def tell(self):
        parts, plot = self.g.parts, self.g.plots[self.plot]
        self.step(parts["opening"][0][1])
        if self.pick([True, True, False]):
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
                self.step(tellings)
        if self.pick([True, False]):
            self.step(parts["ending"][0][1])
        text = "".join(self.out).strip()
        text = re.sub(r"  +", " ", text)
        self.text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU]|honest)(?!one\b|use)", r"\1n ", text)


def wanted(story):
    """Three words for the "Words:" line, all of them in the story; mostly the values of its slots."""
    seen = re.findall(r"(?<![A-Za-z'])[a-z]+(?![A-Za-z'])", story.text)
    slots = sorted(w for w in story.slots_used if w in set(seen))
    rest = sorted({w for w in seen if len(w) > 3 and w not in PLAIN and w not in slots})
    words = []
    while len(words) < 3:
        pool = [w for w in (slots if story.pick([1, 1, 1, 0]) and len(slots) > 3 else rest) if w not in words]
        words.append(story.pick(pool))
    return words


def stories(seed, heldout=False, grammar=None):
    """The stream. heldout: the combinations that training never sees; for others take another seed."""
    grammar, rng = grammar or Grammar(), random.Random(seed)
    while True:
        s = Story(grammar, rng, heldout)
        if not 80 <= len(s.text.split()) <= 250:
            continue
        words = wanted(s) if s.pick([True, False]) else []
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
