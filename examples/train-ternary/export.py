"""Writes a checkpoint as a Hugging Face directory (BitNetForCausalLM, packed ternary weights) and, with --reference,
what an importer must reproduce: reference.json (greedy ids; cross-entropy of held-out stories) and heldout.json (200 such stories).

    python export.py RUN OUT [--reference]

OUT is replaced at once, so that a reader never sees half a directory. Without a checkpoint the weights are random.
"""
import argparse, json, math, os, shutil
from pathlib import Path
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from model import BitNet, Shape, int8_rows, norm, rope, ternarise
from stories import heldout
from tokenizer import BOS, EOS, PAD

GROUPS = dict(q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj",
              gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj")
NORMS = dict(input_norm="input_layernorm", post_norm="post_attention_layernorm",
             attn_sub_norm="self_attn.attn_sub_norm", ffn_sub_norm="mlp.ffn_sub_norm")
PROMPTS = ["", "Words: fox, bell, kind\n", "Words: boat, red, brave\n", "Words: moon, cat, sad\n", "Words: cake, bear, garden\n",
           "Once there was", "Once upon a time, a brave girl named Lucy", "Tom was a", "One sunny day, Mia", "Long ago, a little fox lived",
           "There once was a mouse named Ben. He was", "This is the story of Anna,", "Near the mountains, there lived", "A shy owl named Nora",
           "Words: dragon, lantern, friend\n", "Words: seed, rain, patient\n", "Words: kite, tree, windy\n", "Words: drum, loud, night\n",
           "Have you heard of Max?", "It was winter."]


def pack(codes):
    """Ternary codes [out, in] -> uint8 [out / 4, in]: the four 2-bit fields hold rows m, m + out/4, m + out/2, m + 3 out/4."""
    fields = (codes + 1).to(torch.uint8).chunk(4, dim=0)
    return fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6


def unpack(packed):
    return torch.cat([(packed >> shift & 3).float() - 1 for shift in (0, 2, 4, 6)])


def tensors(model):
    out = {"model.embed_tokens.weight": int8_rows(model.embedding), "model.norm.weight": model.final_norm}
    for name, path in GROUPS.items():
        codes, scale = ternarise(getattr(model, name))
        if name in ("o", "down"):
            scale = scale * model.BRANCH        # the constant of every branch folds away here
        for i in range(model.shape.layers):
            out[f"model.layers.{i}.{path}.weight"] = pack(codes[i])
            out[f"model.layers.{i}.{path}.weight_scale"] = scale[i].reshape(1)
    for name, path in NORMS.items():
        for i in range(model.shape.layers):
            out[f"model.layers.{i}.{path}.weight"] = getattr(model, name)[i]
    return {k: v.detach().contiguous().clone() for k, v in out.items()}


def config(s):
    return {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "vocab_size": s.vocab,
            "hidden_size": s.dim, "intermediate_size": s.ffn, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
            "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim, "max_position_embeddings": s.context, "rope_theta": s.theta,
            "rms_norm_eps": s.eps, "tie_word_embeddings": True, "attention_bias": False, "bos_token_id": BOS, "eos_token_id": EOS,
            "pad_token_id": PAD, "torch_dtype": "float32",
            "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}}


class Exported:
    """The plain arithmetic of an exported directory, as any BitNetForCausalLM runs it: the reference."""

    def __init__(self, directory):
        c = json.loads((directory / "config.json").read_text())
        t = load_file(directory / "model.safetensors")
        self.t = {k: unpack(v) if v.dtype == torch.uint8 else v for k, v in t.items()}
        self.layers, self.heads, self.kv, self.eps = (c[k] for k in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps"))
        half = c["head_dim"] // 2
        angle = torch.arange(c["max_position_embeddings"])[:, None] * c["rope_theta"] ** (-torch.arange(half) / half)
        self.cos, self.sin = angle.cos()[:, None], angle.sin()[:, None]

    rounded = True

    def linear(self, x, path):
        if not self.rounded:
            return F.linear(x, self.t[path + ".weight"]) * self.t[path + ".weight_scale"]
        a = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        q = (x * a).round().clamp(-128, 127)
        return F.linear(q, self.t[path + ".weight"]) / a * self.t[path + ".weight_scale"]     # sums stay below 2^24: exact

    def logits(self, ids):
        n, t = len(ids), self.t
        x = t["model.embed_tokens.weight"][ids]
        for i in range(self.layers):
            p = f"model.layers.{i}."
            h = norm(x, t[p + "input_layernorm.weight"], self.eps)
            q, k, v = (self.linear(h, f"{p}self_attn.{m}_proj").view(n, -1, self.cos.shape[-1] * 2) for m in "qkv")
            q, k = rope(q, self.cos[:n], self.sin[:n]), rope(k, self.cos[:n], self.sin[:n])
            k, v = (m.repeat_interleave(self.heads // self.kv, 1) for m in (k, v))
            att = F.scaled_dot_product_attention(*(m.transpose(0, 1)[None] for m in (q, k, v)), is_causal=True)[0].transpose(0, 1).flatten(1)
            x = x + self.linear(norm(att, t[p + "self_attn.attn_sub_norm.weight"], self.eps), p + "self_attn.o_proj")
            h = norm(x, t[p + "post_attention_layernorm.weight"], self.eps)
            g = self.linear(h, p + "mlp.gate_proj").relu().square() * self.linear(h, p + "mlp.up_proj")
            x = x + self.linear(norm(g, t[p + "mlp.ffn_sub_norm.weight"], self.eps), p + "mlp.down_proj")
        return F.linear(norm(x, t["model.norm.weight"], self.eps), t["model.embed_tokens.weight"])


def reference(plain, tokenizer, stories):
    """Lines of JSON. nats: the sum over a story's tokens, <eos> included. gap: how far the best logit was ahead, at every greedy token."""
    count = nats = 0
    lines = []
    for story in stories:
        ids = torch.tensor([BOS] + tokenizer.encode(story["text"]).ids + [EOS])
        loss = float(F.cross_entropy(plain.logits(ids[:-1]), ids[1:], reduction="sum").double())
        lines.append(dict(text=story["text"], tokens=len(ids) - 1, nats=round(loss, 4)))
        count, nats = count + len(ids) - 1, nats + loss
    bits = sum(s["bits"] for s in stories)
    total = dict(stories=len(stories), tokens=count, natsPerToken=nats / count, generatorNatsPerToken=bits * math.log(2) / count)
    prompts = []
    for text in PROMPTS:
        ids, gap = [BOS] + tokenizer.encode(text).ids, []
        start = len(ids)
        while len(ids) < start + 64 and ids[-1] != EOS:
            top = plain.logits(torch.tensor(ids))[-1].topk(2)
            gap.append(round(float(top.values[0] - top.values[1]), 4))
            ids.append(int(top.indices[0]))
        prompts.append(dict(prompt=text, ids=ids[start:], gap=gap))
    listed = lambda rows: "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"
    return total, f'{{"heldOut": {json.dumps(total)},\n"stories": {listed(lines[:20])},\n"prompts": {listed(prompts)}}}\n'


@torch.no_grad()
def main():
    args = argparse.ArgumentParser()
    args.add_argument("run", type=Path)
    args.add_argument("out", type=Path)
    args.add_argument("--reference", action="store_true")
    a = args.parse_args()
    tokenizer = Tokenizer.from_file(str(a.run / "tokenizer.json"))
    torch.manual_seed(0)
    model, trained = BitNet(), dict(step=0, tokens=0)
    if (a.run / "checkpoint.pt").exists():
        c = torch.load(a.run / "checkpoint.pt")
        model = BitNet(Shape(**c["shape"]))
        model.load_state_dict(c["model"])
        trained = dict(step=c["step"], tokens=c["tokens"])
    s, tmp = model.shape, a.out.with_name(a.out.name + f".tmp{os.getpid()}")
    tmp.mkdir(parents=True)
    save_file(tensors(model), str(tmp / "model.safetensors"), metadata={"format": "pt"})
    (tmp / "model.safetensors").chmod(0o644)
    write = lambda name, value: (tmp / name).write_text(json.dumps(value, indent=1) + "\n")
    write("config.json", config(s))
    write("generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "do_sample": True, "temperature": 0.8})
    write("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
                                    "add_bos_token": True, "add_prefix_space": False, "clean_up_tokenization_spaces": False, "model_max_length": s.context})
    shutil.copy(a.run / "tokenizer.json", tmp)
    plain = Exported(tmp)
    ids = torch.tensor([BOS] + tokenizer.encode(heldout(1)[0]["text"]).ids)
    for rounded in (False, True):       # without rounding only the order of sums differs; with it, roundings near one half flip
        plain.rounded = model.rounded = rounded
        gap = (plain.logits(ids) - model.logits(ids)).abs().max()
        print(f"largest difference of a logit, trained against exported form: {gap:.1e} with {'int8' if rounded else 'float'} activations")
    if a.reference:
        stories = heldout(200)
        write("heldout.json", [s["text"] for s in stories])
        total, text = reference(plain, tokenizer, stories)
        (tmp / "reference.json").write_text(text)
        print("held-out:", total)
    old = a.out.with_name(a.out.name + f".old{os.getpid()}")
    if a.out.exists():
        a.out.rename(old)
    tmp.rename(a.out)
    shutil.rmtree(old, ignore_errors=True)
    print(f"step {trained['step']}, {trained['tokens']} tokens -> {a.out}")


if __name__ == "__main__":
    main()
