"""Samples stories from an exported directory, many side by side, for check.py and for the model card.

    python sample.py OUT SAMPLES.json [--count 200] [--temperature 0.8]

Every second story is asked for three words, those of a held-out story's own "Words:" line.
"""
import argparse, json
from pathlib import Path
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from export import Exported, norm, rope
from stories import heldout
from tokenizer import BOS, EOS


class Generator(Exported):
    """Exported's arithmetic for one token of many stories at a time, with a cache of keys and values."""

    def start(self, count, context):
        width = self.cos.shape[-1] * 2
        self.cache = [torch.zeros(2, count, self.kv, context, width) for _ in range(self.layers)]

    def step(self, ids, at):
        n, t = len(ids), self.t
        x = t["model.embed_tokens.weight"][ids]
        for i, cache in enumerate(self.cache):
            p = f"model.layers.{i}."
            h = norm(x, t[p + "input_layernorm.weight"], self.eps)
            q, k, v = (self.linear(h, f"{p}self_attn.{m}_proj").view(n, -1, self.cos.shape[-1] * 2) for m in "qkv")
            cache[0, :, :, at], cache[1, :, :, at] = rope(k, self.cos[at], self.sin[at]), v
            k, v = cache[:, :, :, :at + 1].repeat_interleave(self.heads // self.kv, 2)
            att = F.scaled_dot_product_attention(rope(q, self.cos[at], self.sin[at])[:, :, None], k, v).flatten(1)
            x = x + self.linear(norm(att, t[p + "self_attn.attn_sub_norm.weight"], self.eps), p + "self_attn.o_proj")
            h = norm(x, t[p + "post_attention_layernorm.weight"], self.eps)
            g = self.linear(h, p + "mlp.gate_proj").relu().square() * self.linear(h, p + "mlp.up_proj")
            x = x + self.linear(norm(g, t[p + "mlp.ffn_sub_norm.weight"], self.eps), p + "mlp.down_proj")
        return F.linear(norm(x, t["model.norm.weight"], self.eps), t["model.embed_tokens.weight"])


@torch.no_grad()
def sample(generator, tokenizer, prompts, temperature, context=512):
    stories, done = [[BOS] + tokenizer.encode(p).ids for p in prompts], [False] * len(prompts)
    generator.start(len(prompts), context)
    for at in range(context - 1):
        logits = generator.step(torch.tensor([s[min(at, len(s) - 1)] for s in stories]), at)
        drawn = torch.multinomial(torch.softmax(logits / temperature, -1), 1)[:, 0].tolist()
        for i, story in enumerate(stories):
            if at == len(story) - 1 and not done[i]:        # behind its prompt
                done[i] = drawn[i] == EOS
                if not done[i]:
                    story.append(drawn[i])
        if all(done):
            break
    return [dict(prompt=p, text=tokenizer.decode(s), ended=d) for p, s, d in zip(prompts, stories, done)]


def main():
    args = argparse.ArgumentParser()
    args.add_argument("model", type=Path)
    args.add_argument("out", type=Path)
    args.add_argument("--count", type=int, default=200)
    args.add_argument("--temperature", type=float, default=0.8)
    args.add_argument("--seed", type=int, default=0)
    a = args.parse_args()
    torch.manual_seed(a.seed)
    lines = iter([s["text"].split("\n")[0] + "\n" for s in heldout(4 * a.count) if s["words"]])
    prompts = [next(lines) if i % 2 else "Once" if i % 4 else "" for i in range(a.count)]
    generator = Generator(a.model)
    out = []
    for i in range(0, a.count, 50):
        out += sample(generator, Tokenizer.from_file(str(a.model / "tokenizer.json")), prompts[i:i + 50], a.temperature)
    a.out.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
