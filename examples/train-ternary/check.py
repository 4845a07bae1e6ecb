"""Checks sampled stories and prints every failure.

    python check.py SAMPLES.json [--train-stories 50000]

SAMPLES.json is an array of {prompt, text, ended}: what was asked for, the whole story (with or without the prompt in
front), and whether the model ended it by itself. A "Words: a, b, c" prompt asks for three words.
"""
import argparse, collections, json, re
from pathlib import Path
from stories import NAMES, Grammar, stories


def body(sample):
    text = sample["text"] if sample["text"].startswith(sample["prompt"]) else sample["prompt"] + sample["text"]
    head, line, rest = text.partition("\n")
    return (rest if line and head.startswith("Words:") else text).strip(), re.findall(r"[a-z]+", head[6:]) if head.startswith("Words:") else []


def sentences(text):
    return [s.strip() for s in re.split(r'(?<=[.!?])\s+|(?<=[.!?]")\s+', text) if s.strip()]


def vocabulary(count=20000, seed=700_000):
    """Every word the grammar can say, found by listening to it, and where it starts."""
    words = collections.Counter()
    for s, _ in zip(stories(seed, grammar=Grammar()), range(count)):
        words.update(re.findall(r"[A-Za-z']+", s["text"]))
    return {w.lower() for w in words}


def hero_kept(text):
    """The first name is the hero. It must come up again in the second half, and no more than two names may appear."""
    found = [w for w in re.findall(r"[A-Za-z]+", text) if w in NAMES]
    if not found:
        return False, "no hero"
    half = [w for w in re.findall(r"[A-Za-z]+", text[len(text) // 2:]) if w in NAMES]
    if found[0] not in half:
        return False, f"{found[0]} is gone in the second half"
    if len(set(found)) > 2:
        return False, f"{len(set(found))} names: {' '.join(sorted(set(found)))}"
    return True, ""


def main():
    args = argparse.ArgumentParser()
    args.add_argument("samples", type=Path)
    args.add_argument("--train-stories", type=int, default=0, help="compare with this many training stories, step by step of the run")
    a = args.parse_args()
    samples, known = json.loads(a.samples.read_text()), vocabulary()
    fails, asked, used, good = collections.Counter(), 0, 0, 0
    for n, s in enumerate(samples):
        text, words = body(s)
        problems = []
        if not s["ended"]:
            problems.append(("did not end", ""))
        twice = [x for x, c in collections.Counter(sentences(text)).items() if c > 1 and len(x.split()) > 3]
        if twice:
            problems.append(("repeats a sentence", twice[0]))
        strange = sorted({w for w in re.findall(r"[A-Za-z']+", text) if w.lower() not in known} - set(words))
        if strange:
            problems.append(("words outside the vocabulary", " ".join(strange)))
        kept, why = hero_kept(text)
        if not kept:
            problems.append(("hero lost", why))
        good += not problems
        if words:
            asked += 1
            missing = [w for w in words if w not in re.findall(r"[a-z]+", text.lower())]
            used += not missing
            if missing:
                problems.append(("asked word missing", " ".join(missing)))
        for kind, detail in problems:
            fails[kind] += 1
            print(f"story {n}: {kind}: {detail}")
    print(f"{good} of {len(samples)} stories pass (end, no repeated sentence, known words, hero kept)")
    print(f"{used} of {asked} stories use all the words asked for")
    print("failures:", dict(fails))
    if a.train_stories:
        ours = [body(s)[0] for s in samples]
        long = [x for t in ours for x in sentences(t) if len(x.split()) > 8]
        whole, told = set(), set()
        seed = 0
        while len(whole) < a.train_stories:          # a step of training reads the first few dozen stories of its seed
            for story, _ in zip(stories(seed, grammar=Grammar()), range(30)):
                text = story["text"].split("\n")[-1]
                whole.add(text)
                told.update(sentences(text))
            seed += 1
        print(f"{sum(t in whole for t in ours)} stories equal one of {len(whole)} training stories;",
              f"{sum(x in told for x in long)} of {len(long)} sentences of more than 8 words occur in them word for word")


if __name__ == "__main__":
    main()
