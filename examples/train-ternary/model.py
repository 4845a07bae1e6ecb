"""BitNet b1.58 2B4T (Hugging Face: BitNetForCausalLM) at toy size, with straight-through quantisation.

Tokens lie flat, [N, dim], many stories behind each other; only attention looks at the stories one by one.
Matrices of one kind are stacked over the layers, so that a step quantises (and optimises) them together.
"""
import math
from dataclasses import asdict, dataclass
import torch
import torch.nn.functional as F


@dataclass
class Shape:
    vocab: int = 2048
    dim: int = 256
    ffn: int = 512
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    context: int = 512
    theta: float = 10000.0
    eps: float = 1e-5
    ternary: bool = True        # False: the float twin

    @property
    def head_dim(self):
        return self.dim // self.heads


def ternarise(w):
    """Absmean: one scale a matrix. Returns codes in {-1, 0, 1} and the scales."""
    scale = w.abs().mean(dim=(-2, -1), keepdim=True).clamp(min=1e-5)
    return (w / scale).round().clamp(-1, 1), scale


def int8_rows(w):
    """The embedding as Lutra stores it: int8, one scale a row."""
    scale = w.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / 127
    return (w / scale).round() * scale


def int8_tokens(x):
    """Activations as BitLinear sees them: int8, one scale a token, straight through for the gradient."""
    a = 127 / x.detach().abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
    return x + ((x.detach() * a).round().clamp(-128, 127) / a - x.detach())


def norm(x, gain, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gain


def rope(x, cos, sin):
    """Half-split rotation of [N, heads, head_dim]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class BitNet(torch.nn.Module):
    # What a branch adds is scaled by this constant: the same as a input embedding times 16, but it folds into the
    # scales of o and down at export. Without it the branches drown the small embedding and copying starts late.
    BRANCH = 1 / 16
    rounded = True              # False: activations as they are, to compare two forms of one model

    def __init__(self, shape=Shape()):
        super().__init__()
        self.shape = s = shape
        kv = s.kv_heads * s.head_dim
        matrix = lambda rows, cols: torch.nn.Parameter(torch.randn(s.layers, rows, cols) * 0.02)
        gain = lambda n, value=1.0: torch.nn.Parameter(torch.full((s.layers, n), value))
        self.embedding = torch.nn.Parameter(torch.randn(s.vocab, s.dim) * 0.02)
        self.q, self.k, self.v, self.o = matrix(s.dim, s.dim), matrix(kv, s.dim), matrix(kv, s.dim), matrix(s.dim, s.dim)
        # o starts as the transpose of v: what a head looks at, it says. Names and asked-for words want just that.
        values = self.v.detach().view(s.layers, s.kv_heads, s.head_dim, s.dim).repeat_interleave(s.heads // s.kv_heads, 1)
        self.o.data.copy_(values.flatten(1, 2).mT)
        self.gate, self.up, self.down = matrix(s.ffn, s.dim), matrix(s.ffn, s.dim), matrix(s.dim, s.ffn)
        self.input_norm, self.post_norm = gain(s.dim), gain(s.dim)
        self.attn_sub_norm, self.ffn_sub_norm = gain(s.dim, 0.25), gain(s.ffn, 0.25)
        self.final_norm = torch.nn.Parameter(torch.ones(s.dim))
        angle = torch.arange(s.context)[:, None] * s.theta ** (-torch.arange(0, s.head_dim, 2) / s.head_dim)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.compiled = self.qkv, self.rest, self.loss      # train.py puts torch.compile around each

    def weights(self):
        """The matrices as the forward pass uses them, quantised once a step."""
        def through(w):
            if not self.shape.ternary:
                return w
            with torch.no_grad():
                t, scale = ternarise(w)
                delta = t * scale - w
            return w + delta
        e = self.embedding
        if self.shape.ternary:
            e = e + (int8_rows(e.detach()) - e.detach())
        return dict(e=e, qkv=torch.cat([through(self.q), through(self.k), through(self.v)], 1).unbind(0), o=through(self.o).unbind(0),
                    gate_up=torch.cat([through(self.gate), through(self.up)], 1).unbind(0), down=through(self.down).unbind(0))

    def linear(self, x, w):
        return F.linear(int8_tokens(x) if self.shape.ternary and self.rounded else x, w)

    def qkv(self, x, gain, w, cos, sin):
        s = self.shape
        y = self.linear(norm(x, gain, s.eps), w).view(x.shape[0], -1, s.head_dim)
        q, k, v = y.split([s.heads, s.kv_heads, s.kv_heads], dim=1)
        return rope(q, cos, sin), rope(k, cos, sin), v

    def rest(self, x, att, gains, o, gate_up, down):
        s = self.shape
        sub, post, ffn = gains
        x = x + self.BRANCH * self.linear(norm(att, sub, s.eps), o)
        gate, up = self.linear(norm(x, post, s.eps), gate_up).chunk(2, dim=-1)
        return x + self.BRANCH * self.linear(norm(gate.relu().square() * up, ffn, s.eps), down)

    def loss(self, x, gain, e, targets):
        """Loss of every token, 0 where the target is -100."""
        return F.cross_entropy(F.linear(norm(x, gain, self.shape.eps), e), targets, ignore_index=-100, reduction="none")

    def attention(self, q, k, v, lengths):
        """Causal attention inside each story; the padding behind the last one is a story too."""
        groups = self.shape.heads // self.shape.kv_heads
        out = []
        for q, k, v in zip(*(t.split(lengths) for t in (q, k, v))):
            k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
            out.append(F.scaled_dot_product_attention(*(t.transpose(0, 1)[None] for t in (q, k, v)), is_causal=True)[0].transpose(0, 1))
        return torch.cat(out).flatten(1)

    def hidden(self, ids, lengths, w, qkv, rest):
        positions = torch.cat([torch.arange(n) for n in lengths])
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        x = F.embedding(ids, w["e"])
        for i in range(self.shape.layers):
            att = self.attention(*qkv(x, self.input_norm[i], w["qkv"][i], cos, sin), lengths)
            gains = self.attn_sub_norm[i], self.post_norm[i], self.ffn_sub_norm[i]
            x = rest(x, att, gains, w["o"][i], w["gate_up"][i], w["down"][i])
        return x

    def losses(self, ids, targets, lengths, eager=False):
        w, (qkv, rest, loss) = self.weights(), (self.qkv, self.rest, self.loss) if eager else self.compiled
        return loss(self.hidden(ids, lengths, w, qkv, rest), self.final_norm, w["e"], targets)

    def logits(self, ids, w=None):
        w = w or self.weights()
        return F.linear(norm(self.hidden(ids, [len(ids)], w, self.qkv, self.rest), self.final_norm, self.shape.eps), w["e"])

    def config(self):
        return asdict(self.shape)
