"""Checks sampled stories and prints every failure.

    python check.py SAMPLES.json [--seeds 8000]

SAMPLES.json is what sample.mjs writes, an array of {prompt, text, ended}: what was asked for, what the model wrote behind it, and
whether it ended the story by itself. A "Words: a, b, c" prompt asks for three words.
"""
import argparse, collections, itertools, json, re
from pathlib import Path
from stories import NAMES, Grammar, stories


def body(sample):
    """The story without its "Words:" line, and the words that the prompt asked for."""
    text = sample["prompt"] + sample["text"]
    head, _, rest = text.partition("\n") if text.startswith("Words:") else ("", "", text)
    return rest.strip(), re.findall(r"[a-z]+", sample["prompt"][6:]) if sample["prompt"].startswith("Words:") else []


def sentences(text):
    return [s.strip() for s in re.split(r'(?<=[.!?])\s+|(?<=[.!?]")\s+', text) if s.strip()]


def vocabulary(grammar, count=20000, seed=700_000):
    """The words the grammar can say, found by listening to it."""
    words = collections.Counter()
    for s, _ in zip(stories(seed, grammar=grammar), range(count)):
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
    args.add_argument("--seeds", type=int, default=0, help="compare with the training stories of this many seeds; a step takes one for every process")
    args.add_argument("--size", type=int, default=1024, help="tokens that were drawn from a seed")
    a = args.parse_args()
    samples, grammar = json.loads(a.samples.read_text()), Grammar()
    known = vocabulary(grammar)
    fails, asked, used, good = collections.Counter(), 0, 0, 0
    for n, s in enumerate(samples):
        text, words = body(s)
        problems = []
        if not s["ended"]:
            problems.append(("did not end", ""))
        twice = [x for x, c in collections.Counter(sentences(text)).items() if c > 1 and len(x.split()) > 3]
        if twice:
            problems.append(("repeats a sentence", twice[0]))
        strange = sorted({w for w in re.findall(r"[A-Za-z']+", text) if w.lower() not in known})
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
    if a.seeds:
        ours = [body(s)[0] for s in samples]
        long = [x for t in ours for x in sentences(t) if len(x.split()) > 8]
        whole, told = set(), set()
        for seed in range(a.seeds):
            for story in itertools.islice(stories(seed, grammar=grammar), a.size // 60):     # as train.py: these or the first of these
                text = story["text"].split("\n")[-1]
                whole.add(text)
                told.update(sentences(text))
        print(f"{sum(t in whole for t in ours)} stories equal one of {len(whole)} training stories;",
              f"{sum(x in told for x in long)} of {len(long)} sentences of more than 8 words occur in them word for word")


if __name__ == "__main__":
    main()
