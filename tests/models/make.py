#!/usr/bin/env python3
"""Makes the tiny random models of this folder and what transformers computes with them; see README.md.

    pip install torch==2.15.0 transformers==4.57.1 safetensors==0.8.0 numpy==2.4.6
    python make.py [NAME...]
"""
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (BitNetConfig, BitNetForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

HERE = Path(__file__).parent
VOCAB, PROMPT, GREEDY = 128, 40, 16
SHAPE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None, torch_dtype='bfloat16')
LINEARS = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']


def tokenizer() -> dict:
    """Characters only: the tests give ids."""
    words = ['<unk>', '<s>', '</s>'] + [chr(33 + i) for i in range(94)]
    words += [f'{a}{b}' for a in 'abcdef' for b in 'abcdef'][:VOCAB - len(words)]
    return {
        'version': '1.0', 'truncation': None, 'padding': None, 'normalizer': None, 'pre_tokenizer': None, 'post_processor': None, 'decoder': None,
        'added_tokens': [{'id': i, 'content': words[i], 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True} for i in range(3)],
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': '<unk>', 'continuing_subword_prefix': None, 'end_of_word_suffix': None, 'fuse_unk': False,
                  'byte_fallback': False, 'vocab': {word: i for i, word in enumerate(words)}, 'merges': [[w[0], w[1]] for w in words[97:]]},
    }


def randomise(model, seed: int, dtype=torch.bfloat16) -> None:
    """Weights of about unit gain, with sharp attention, so that positions matter; rounded to the type they are stored in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith('bias'):
                p.copy_(0.3 * noise)
            elif p.dim() == 1:
                p.copy_(1 + 0.2 * noise)
            elif 'embed_tokens' in name or 'lm_head' in name:
                p.copy_((0.1 if model.config.tie_word_embeddings else 0.5) * noise)  # large tied ones repeat their input
            else:
                p.copy_(noise * (2 if 'q_proj' in name or 'k_proj' in name else 1) / math.sqrt(p.shape[1]))
            p.copy_(p.to(dtype).float())


def reference(model) -> dict:
    """Logits of a prompt at some positions and the likeliest tokens that follow, in f32."""
    model = model.float().eval()
    ids = [1] + [3 + (i * 37 + i * i) % (VOCAB - 3) for i in range(PROMPT - 1)]
    positions, greedy = [0, 9, 24, PROMPT - 1], []
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        margin = math.inf
        for _ in range(GREEDY):
            top = model(torch.tensor([ids + greedy])).logits[0, -1].topk(2)
            margin = min(margin, float(top.values[0] - top.values[1]))
            greedy.append(int(top.indices[0]))
    assert margin > 0.01 and len(set(greedy)) > 4 and not {0, 2} & set(greedy), (margin, greedy)  # otherwise take another seed
    return {'prompt': ids, 'positions': positions, 'logits': [[float(f'{v:.7g}') for v in logits[p].tolist()] for p in positions],
            'greedy': greedy, 'margin': float(f'{margin:.3g}')}


def write(name: str, model, tensors: dict, expected: dict, changes: dict | None = None) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads(model.config.to_json_string(use_diff=False))
    kept = {'architectures': [type(model).__name__], 'model_type': config['model_type']}
    for key in ('hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size max_position_embeddings rms_norm_eps '
                'rope_theta rope_scaling hidden_act tie_word_embeddings attention_bias mlp_bias sliding_window use_sliding_window max_window_layers layer_types '
                'bos_token_id eos_token_id transformers_version').split():
        if key in config:
            kept[key] = config[key]
    (folder / 'config.json').write_text(json.dumps({**kept, **(changes or {})}, indent=1) + '\n')
    (folder / 'generation_config.json').write_text(json.dumps({'eos_token_id': [2, 0]}) + '\n')
    (folder / 'tokenizer.json').write_text(json.dumps(tokenizer(), ensure_ascii=False) + '\n')
    (folder / 'expected.json').write_text(json.dumps(expected) + '\n')
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / 'model.safetensors', metadata={'format': 'pt'})
    print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir())} bytes, margin {expected['margin']}")


def state(model, dtype=torch.bfloat16) -> dict:
    tensors = {key: value.to(dtype) for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop('lm_head.weight', None)
    return tensors


def plain(name: str, seed: int, kind, config_kind, **changes) -> None:
    config = config_kind(**{**SHAPE, **changes}, attn_implementation='eager')
    model = kind(config)
    randomise(model, seed)
    write(name, model, state(model), reference(model))


# ---- BitNet

class TernaryLinear(torch.nn.Module):
    """BitNet's arithmetic: trits, a scale, activations rounded to 8 bits of the vector's largest (or not at all)."""
    rounded = True

    def __init__(self, trits: torch.Tensor, scale: float):
        super().__init__()
        self.trits, self.scale = trits.float(), scale

    def forward(self, x):
        if self.rounded:
            a = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
            x = (x * a).round().clamp(-128, 127) / a
        return F.linear(x, self.trits) * self.scale


def pack_trits(t: torch.Tensor) -> torch.Tensor:
    """transformers' layout: rows r, r + n, r + 2n, r + 3n of a matrix share a byte, the first in its lowest bits."""
    n = (t.shape[0] + 3) // 4
    codes = (t + 1).to(torch.uint8)
    packed = torch.zeros(n, t.shape[1], dtype=torch.uint8)
    for i in range(4):
        packed |= codes[i * n:(i + 1) * n] << 2 * i
    return packed


def ternary(name: str, seed: int, kind, config_kind, linear_class: str, mode: str, **changes) -> None:
    model = kind(config_kind(**{**SHAPE, **changes}, attn_implementation='eager'))
    randomise(model, seed)
    tensors = state(model)
    for layer, block in enumerate(model.model.layers):
        for path in LINEARS:
            key, parent, leaf = f'model.layers.{layer}.{path}', block.get_submodule(path.split('.')[0]), path.split('.')[1]
            w = block.get_submodule(path).weight.detach()
            mean = w.abs().mean().clamp(min=1e-5)
            t = (w / mean).round().clamp(-1, 1)
            scale = float(mean)
            if mode == 'offline':
                stored = (mean if linear_class == 'autobitlinear' else 1 / mean).to(torch.bfloat16)
                tensors[f'{key}.weight'] = pack_trits(t)
                tensors[f'{key}.weight_scale'] = stored.reshape(1)
                scale = float(stored) if linear_class == 'autobitlinear' else 1 / float(stored)
            setattr(parent, leaf, TernaryLinear(t, scale))
    rounded = reference(model)
    TernaryLinear.rounded = False
    expected = reference(model)
    TernaryLinear.rounded = True
    expected['rounded'] = {'logits': rounded['logits'], 'greedy': rounded['greedy'], 'margin': rounded['margin']}
    quantisation = {'quant_method': 'bitnet', 'linear_class': linear_class, 'quantization_mode': mode, 'modules_to_not_convert': None}
    write(name, model, tensors, expected, {'quantization_config': quantisation})


# ---- GPTQ

def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """[n][m] -> int32 [n * bits / 32][m]: down the columns, lowest bits first, values across words where they fall so."""
    n, m = values.shape
    stream = ((values[:, None, :] >> np.arange(bits)[None, :, None]) & 1).reshape(n * bits // 32, 32, m).astype(np.uint64)
    return (stream << np.arange(32, dtype=np.uint64)[None, :, None]).sum(1).astype(np.uint32).view(np.int32)


def gptq(name: str, seed: int, kind, config_kind, bits: int, group: int, sym: bool, version: int, act_order: bool = False, **changes) -> None:
    model = kind(config_kind(**{**SHAPE, 'intermediate_size': 64, **changes}, attn_implementation='eager'))
    randomise(model, seed, torch.float16)
    tensors = state(model, torch.float16)
    rng = np.random.default_rng(seed)
    for layer, block in enumerate(model.model.layers):
        for path in LINEARS:
            key, linear = f'model.layers.{layer}.{path}', block.get_submodule(path)
            w = linear.weight.detach().numpy().T  # [K][M], as qweight
            k, width = w.shape[0], w.shape[0] if group == -1 else group
            g_idx = np.arange(k) // width
            if act_order:
                g_idx = rng.permutation(g_idx)
            scales, zeros, q = [], [], np.zeros(w.shape, np.int64)
            for g in range(k // width):
                rows = g_idx == g
                low, high = np.minimum(w[rows].min(0), 0), np.maximum(w[rows].max(0), 0)
                levels = 2 ** bits - 1
                if sym:
                    s, z = np.maximum(-low, high) * 2 / levels, np.full(w.shape[1], 2 ** (bits - 1))
                else:
                    s = (high - low) / levels
                    z = np.clip(np.round(-low / s), 1, levels).astype(np.int64)
                s = s.astype(np.float16).astype(np.float32)
                q[rows] = np.clip(np.round(w[rows] / s) + z, 0, levels)
                scales.append(s)
                zeros.append(z)
            scales, zeros = np.array(scales), np.array(zeros)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy((scales[g_idx] * (q - zeros[g_idx])).T.astype(np.float32)))
            del tensors[f'{key}.weight']
            tensors[f'{key}.qweight'] = torch.from_numpy(pack_bits(q, bits))
            tensors[f'{key}.qzeros'] = torch.from_numpy(np.ascontiguousarray(pack_bits((zeros - (version == 1)).T, bits).T))
            tensors[f'{key}.scales'] = torch.from_numpy(scales.astype(np.float16))
            tensors[f'{key}.g_idx'] = torch.from_numpy(g_idx.astype(np.int32))
    quantisation = {'quant_method': 'gptq', 'bits': bits, 'group_size': group, 'sym': sym, 'desc_act': act_order,
                    'checkpoint_format': 'gptq' if version == 1 else 'gptq_v2'}
    write(name, model, tensors, reference(model), {'quantization_config': quantisation})


LLAMA = (LlamaForCausalLM, LlamaConfig)
LLAMA3 = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 32}
YARN = {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 64}
MODELS = {
    'llama3': lambda n: plain(n, 21, *LLAMA, rope_theta=500000.0, rope_scaling=LLAMA3),
    'llama-biases': lambda n: plain(n, 2, *LLAMA, attention_bias=True, mlp_bias=True),
    'llama-linear': lambda n: plain(n, 3, *LLAMA, rope_scaling={'rope_type': 'linear', 'factor': 4.0}),
    'mistral': lambda n: plain(n, 22, MistralForCausalLM, MistralConfig, sliding_window=96, head_dim=24),
    'smollm2': lambda n: plain(n, 5, *LLAMA, tie_word_embeddings=True, hidden_size=72, num_attention_heads=9, num_key_value_heads=3, rope_theta=100000.0),
    'qwen2': lambda n: plain(n, 6, Qwen2ForCausalLM, Qwen2Config, rope_theta=1000000.0, tie_word_embeddings=True, use_sliding_window=False),
    'qwen3': lambda n: plain(n, 7, Qwen3ForCausalLM, Qwen3Config, head_dim=32, rope_theta=1000000.0, tie_word_embeddings=True),
    'qwen2-yarn': lambda n: plain(n, 8, Qwen2ForCausalLM, Qwen2Config, rope_scaling=YARN),
    'bitnet': lambda n: ternary(n, 9, BitNetForCausalLM, BitNetConfig, 'autobitlinear', 'offline', hidden_act='relu2', tie_word_embeddings=True),
    'bitnet-online': lambda n: ternary(n, 35, BitNetForCausalLM, BitNetConfig, 'autobitlinear', 'online', hidden_act='relu2', tie_word_embeddings=True),
    'falcon3-1.58': lambda n: ternary(n, 11, *LLAMA, 'bitlinear', 'offline', head_dim=32),
    'gptq-4': lambda n: gptq(n, 12, *LLAMA, 4, 32, True, 1),
    'gptq-4-asym': lambda n: gptq(n, 13, Qwen2ForCausalLM, Qwen2Config, 4, 64, False, 1),
    'gptq-3-v2': lambda n: gptq(n, 14, *LLAMA, 3, 32, False, 2),
    'gptq-2-v2': lambda n: gptq(n, 15, *LLAMA, 2, -1, False, 2),
    'gptq-8': lambda n: gptq(n, 16, *LLAMA, 8, 32, True, 1),
    'gptq-4-act-order': lambda n: gptq(n, 17, *LLAMA, 4, 32, False, 1, act_order=True),
}

if __name__ == '__main__':
    torch.set_num_threads(1)
    for model_name in sys.argv[1:] or MODELS:
        MODELS[model_name](model_name)
