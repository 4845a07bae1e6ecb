"""Trains the story model on an endless stream; every step draws its own stories, so nothing is seen twice.

    python train.py --dir RUN --stable 120 --decay 30   train; the same line again goes on after an interruption
    cp RUN/stable.pt RUN/checkpoint.pt                  go back to the end of the stable phase, to train on with a longer one

The rate stays high for --stable minutes, then falls to zero in --decay minutes (earlier if there is a file RUN/decay); what is
learned at the high rate is never lost to a schedule that was too short. RUN/checkpoint.pt holds weights, optimiser and step,
RUN/stable.pt the same before the decay; RUN/log.jsonl the numbers; RUN/pid the process. SIGTERM saves and ends.
"""
import os
os.environ["OMP_NUM_THREADS"] = "1"                         # one thread a process: see Worker
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
import argparse, itertools, json, math, re, signal, time
from pathlib import Path
import torch
torch.set_flush_denormal(True)      # before anything else: worth a factor of four once the softmax is confident
import torch.multiprocessing as mp
from tokenizers import Tokenizer
from model import BitNet, Shape
from stories import NAMES, Grammar, heldout, stories
from tokenizer import BOS, EOS, PAD

PLAIN, NAME, ASKED, LEAD = range(4)     # kinds of tokens: the loss of NAME and ASKED is logged apart, all but PLAIN weigh more
GRAMMAR = Grammar()


def encode(tokenizer, story):
    """Token ids and kinds: NAME opens a name that the story has used before, ASKED a word of its "Words:" line, and LEAD
    is what stands before such a word in its sentence: there the model decides which word comes next."""
    text, seen, leads = story["text"], set(), set()
    body = text.index("\n") + 1 if story["words"] else 0
    marks = {}
    for m in re.finditer(r"[A-Za-z]+", text):
        word = m.group()
        if word in NAMES:
            if word in seen:
                marks[m.start()] = NAME
            seen.add(word)
        elif m.start() >= body and word in story["words"] and word not in seen:
            seen.add(word)
            marks[m.start()] = ASKED
            leads.update(range(max(body, text.rfind(". ", 0, m.start()) + 1), m.start()))
    e = tokenizer.encode(text)
    kinds = [next((marks[i] for i in range(a, b) if i in marks), LEAD if a in leads else PLAIN) for a, b in e.offsets]
    return [BOS] + e.ids + [EOS], [PLAIN] + kinds + [PLAIN]


def pack(encoded, size):
    """Whole stories behind each other, padded to size: ids, targets, kinds of the targets, lengths."""
    ids, targets, kinds, lengths = [], [], [], []
    for story, kind in encoded:
        ids += story[:-1]
        targets += story[1:]
        kinds += kind[1:]
        lengths.append(len(story) - 1)
    rest = size - len(ids)
    lengths += [256] * (rest // 256) + [rest % 256] * (rest % 256 > 0)
    pad = lambda xs, x: torch.tensor(xs + [x] * rest)
    return pad(ids, PAD), pad(targets, -100), pad(kinds, PLAIN), lengths


def batch(tokenizer, seed, size):
    """The stories of one seed, as many as fit; of the next few, those that fit into what is left."""
    chosen, room = [], size
    for story in itertools.islice(stories(seed, grammar=GRAMMAR), size // 60):
        e = encode(tokenizer, story)
        if len(e[0]) - 1 <= room:
            chosen.append(e)
            room -= len(e[0]) - 1
        if room < 100:
            break
    return pack(chosen, size)


class Tally:
    """Mean loss of all tokens, of repeated names and of asked-for words."""
    def __init__(self):
        self.sum, self.count = torch.zeros(4), torch.zeros(4)

    def add(self, losses, targets, kinds):
        for kind in range(4):
            m = (targets >= 0) & (kinds == kind)
            self.sum[kind] += losses[m].sum()
            self.count[kind] += m.sum()

    def read(self):
        mean = self.sum / self.count.clamp(min=1)
        return dict(loss=float(self.sum.sum() / self.count.sum().clamp(min=1)), name=float(mean[NAME]), asked=float(mean[ASKED]))


def evaluate(model, tokenizer, count=48):
    """The losses on held-out stories and, beside them, what the generator's own choices cost."""
    tally, chosen = Tally(), heldout(count, GRAMMAR)
    with torch.no_grad():
        encoded = [encode(tokenizer, s) for s in chosen]
        for i in range(0, count, 8):
            ids, targets, kinds, lengths = pack(encoded[i:i + 8], 2048)
            tally.add(model.losses(ids, targets, lengths, eager=True), targets, kinds)
    return dict(tally.read(), generator=sum(s["bits"] for s in chosen) * math.log(2) / sum(len(ids) - 1 for ids, _ in encoded))


@torch.no_grad()
def sample(model, tokenizer, prompt="", temperature=0.8, seed=0, limit=320):
    """One story; the context is run anew for every token, which is slow but short."""
    g = torch.Generator().manual_seed(seed)
    ids, w = [BOS] + tokenizer.encode(prompt).ids, model.weights()
    while len(ids) < limit:
        p = torch.softmax(model.logits(torch.tensor(ids), w)[-1] / temperature, -1)
        ids.append(int(torch.multinomial(p, 1, generator=g)))
        if ids[-1] == EOS:
            break
    return tokenizer.decode(ids)


def optimiser(model, lr):
    groups = [dict(params=[p for p in model.parameters() if p.dim() == 3], decay=True), dict(params=[p for p in model.parameters() if p.dim() != 3], decay=False)]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), weight_decay=0, fused=True)


def grow(model, small):
    """Takes over the weights of a model of fewer layers. The new layers, on top, add next to nothing at first."""
    own = model.state_dict()
    for name, w in small.items():
        own[name][:len(w)] = w
        if name.endswith("sub_norm"):
            own[name][len(w):] = 0.02


class Worker:
    """Gradients of a part of the batch. A step splits over processes of one thread that meet once a step: threads that
    meet in every operation wait for each other all the time when other programs use the machine."""

    def __init__(self, model, tokenizer_file, size, eager):
        torch.set_num_threads(1)
        self.model, self.size, self.tokenizer = model, size, Tokenizer.from_file(tokenizer_file)
        if not eager:
            model.compiled = tuple(torch.compile(f, dynamic=False) for f in model.compiled)

    def gradients(self, seed, boost):
        ids, targets, kinds, lengths = batch(self.tokenizer, seed, self.size)
        losses = self.model.losses(ids, targets, lengths)
        (losses * torch.tensor([1, boost, boost, boost])[kinds]).sum().backward()
        return losses.detach(), targets, kinds


def serve(model, grads, pipe, *rest):
    """The other processes: weights and gradients lie in shared memory, the pipe says whose turn it is."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_flush_denormal(True)
    worker = Worker(model, *rest)
    try:
        while True:
            tally = worker.gradients(*pipe.recv())
            for p, g in zip(model.parameters(), grads):
                g.copy_(p.grad)
                p.grad = None
            pipe.send([t.numpy() for t in tally])
    except EOFError:
        pass


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--dir", type=Path, required=True)
    args.add_argument("--stable", type=float, default=120, help="length of the phase of constant rate, in minutes of training")
    args.add_argument("--decay", type=float, default=30, help="length of the phase in which the rate falls to zero")
    args.add_argument("--by-tokens", action="store_true", help="both lengths in millions of tokens: the same schedule on any machine")
    args.add_argument("--warm", type=int, default=60, help="warm-up steps")
    args.add_argument("--batch", type=int, default=2048)
    args.add_argument("--processes", type=int, default=2)
    args.add_argument("--lr", type=float, default=5e-3)
    args.add_argument("--layers", type=int, default=Shape.layers)
    args.add_argument("--ffn", type=int, default=Shape.ffn)
    args.add_argument("--boost", type=float, default=4, help="weight of repeated names and asked-for words, which are learned last")
    args.add_argument("--grow", type=Path, help="a checkpoint of fewer layers to begin with, of the same tokenizer")
    args.add_argument("--float", action="store_true", help="the float twin")
    args.add_argument("--eager", action="store_true", help="no torch.compile")
    args.add_argument("--save", type=float, default=10, help="minutes between checkpoints")
    args.add_argument("--seed", type=int, default=0)
    a = args.parse_args()
    a.dir.mkdir(parents=True, exist_ok=True)
    (a.dir / "pid").write_text(str(os.getpid()))
    tokenizer = Tokenizer.from_file(str(a.dir / "tokenizer.json"))
    torch.manual_seed(a.seed)
    model = BitNet(Shape(layers=a.layers, ffn=a.ffn, ternary=not a.float))
    optim = optimiser(model, a.lr)
    step = tokens = clock = 0           # clock: seconds of training, of all runs of this schedule
    if (a.dir / "checkpoint.pt").exists():
        c = torch.load(a.dir / "checkpoint.pt")
        model.load_state_dict(c["model"])
        optim.load_state_dict(c["optim"])
        step, tokens, clock = c["step"], c["tokens"], c["clock"]
    elif a.grow:
        grow(model, torch.load(a.grow)["model"])
    model.share_memory()
    rest, others = (str(a.dir / "tokenizer.json"), a.batch // a.processes, a.eager), []
    for _ in range(a.processes - 1):
        here, there = mp.get_context("spawn").Pipe()
        grads = [torch.zeros_like(p).share_memory_() for p in model.parameters()]
        child = mp.get_context("spawn").Process(target=serve, args=(model, grads, there, *rest), daemon=True)
        child.start()
        there.close()
        others.append((here, grads))
    worker = Worker(model, *rest)

    def save(name="checkpoint.pt"):
        state = dict(model=model.state_dict(), optim=optim.state_dict(), step=step, tokens=tokens, clock=clock, shape=model.config())
        torch.save(state, a.dir / "saving.tmp")
        os.replace(a.dir / "saving.tmp", a.dir / name)

    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    log = open(a.dir / "log.jsonl", "a", buffering=1)
    begin = saved = last = time.time()
    tally, mark, decaying = Tally(), (time.time(), tokens), None
    while True:
        now = time.time()
        clock += min(now - last, 30)        # a pause of the process is no training
        last = now
        place = tokens / 1e6 if a.by_tokens else clock / 60
        if (a.dir / "decay").exists():
            a.stable = min(a.stable, float((a.dir / "decay").read_text() or place))
            (a.dir / "decay").write_text(str(a.stable))
        falling = max(0, place - a.stable) / a.decay
        if falling > 0 and decaying is False:
            save("stable.pt")
        decaying = falling > 0
        if falling >= 1 or stop:
            break
        rate = min(1, (step + 1) / a.warm) * (1 - falling)
        for g in optim.param_groups:
            g["lr"] = a.lr * rate
            g["weight_decay"] = 0.1 if g["decay"] and not decaying else 0.0
        boost = 1 + (a.boost - 1) * (1 - falling)       # the end of the schedule sees the true distribution
        seeds = [a.seed + step * a.processes + i for i in range(a.processes)]
        for (pipe, _), seed in zip(others, seeds[1:]):
            pipe.send((seed, boost))
        parts = [worker.gradients(seeds[0], boost)]
        for pipe, grads in others:
            parts.append([torch.from_numpy(t) for t in pipe.recv()])
            for p, g in zip(model.parameters(), grads):
                p.grad += g
        count = sum(int((targets >= 0).sum()) for _, targets, _ in parts)
        for p in model.parameters():
            p.grad /= count
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad(set_to_none=True)
        for part in parts:
            tally.add(*part)
        step, tokens = step + 1, tokens + count
        if step % 20 == 0:
            now = time.time()
            row = dict(step=step, tokens=tokens, **tally.read(), tps=(tokens - mark[1]) / (now - mark[0]), rate=rate, minutes=(now - begin) / 60)
            log.write(json.dumps({k: round(v, 4) for k, v in row.items()}) + "\n")
            tally, mark = Tally(), (now, tokens)
        if time.time() - saved > 60 * a.save:
            save()
            saved = time.time()
            row = dict(step=step, tokens=tokens, heldout=evaluate(model, tokenizer))
            print(json.dumps(row), sample(model, tokenizer, seed=step), sep="\n", flush=True)
            log.write(json.dumps(row) + "\n")
    save()
    row = dict(step=step, tokens=tokens, heldout=evaluate(model, tokenizer, 200), falling=round(falling, 3))
    log.write(json.dumps(row) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
