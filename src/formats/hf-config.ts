/** config.json of Hugging Face models -> what Lutra needs to know; what it would compute wrongly is refused. */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { isObject, shown } from './bytes.js';
import type { Extras } from './packed.js';
import type { ModelConfig, RopeScaling } from './types.js';

type Json = Record<string, any>;

/** Architectures by model_type: the vectors that all their layers have beyond Llama's, and whether attention may slide. */
const architectures: Record<string, { extras: string[]; slides?: true }> = {
  llama: { extras: [] },
  mistral: { extras: [], slides: true },
  qwen2: { extras: ['attn.q.bias', 'attn.k.bias', 'attn.v.bias'], slides: true },
  qwen3: { extras: ['attn.qNorm', 'attn.kNorm'], slides: true },
  bitnet: { extras: ['attn.subNorm', 'ffn.subNorm'] },
};
/** Switches that add biases. */
const biases: Record<string, string[]> = {
  attention_bias: ['attn.q.bias', 'attn.k.bias', 'attn.v.bias', 'attn.o.bias'],
  mlp_bias: ['ffn.gate.bias', 'ffn.up.bias', 'ffn.down.bias'],
};
/** transformers' value where a configuration of a sliding architecture names none. */
const DEFAULT_WINDOW = 4096;

/** How the linear layers of a checkpoint are quantised. */
export type Quantisation =
  /** `online`: plain weights, which become trits when they are used; `divides`: packed trits are divided by their scale. */
  | { method: 'bitnet'; online: boolean; divides: boolean }
  /** `zeroOffset`: what is added to stored zero points. */
  | { method: 'gptq'; bits: 2 | 3 | 4 | 8; groupSize: number; zeroOffset: 0 | 1 };

export interface HuggingFaceConfig {
  /** What ModelConfig takes from config.json; unchecked. */
  config: Partial<Record<keyof ModelConfig, unknown>>;
  /** Vectors that the tensors must hold beyond plain Llama's. */
  extras: Extras;
  quantisation: Quantisation | null;
}

/** `quantizeConfig`: of quantize_config.json, where older GPTQ tools put it. */
export function readHuggingFaceConfig(raw: Json, quantizeConfig: Json | undefined, path: string): HuggingFaceConfig {
  const refuse: Refuse = (field, value, hint) => {
    throw new UnsupportedFormatError(path, field, `${shown(value)} is not supported`, hint);
  };
  const known = typeof raw.model_type === 'string' && Object.hasOwn(architectures, raw.model_type) ? architectures[raw.model_type]! : undefined;
  if (!known) return refuse('model_type', raw.model_type, `Known are ${Object.keys(architectures).join(', ')}.`);
  if (raw.hidden_act !== 'silu' && raw.hidden_act !== 'relu2') refuse('hidden_act', raw.hidden_act, 'silu and relu2 are.');
  const rope = ropeOf(raw, refuse);
  return {
    config: {
      architecture: raw.model_type,
      dim: raw.hidden_size,
      hiddenDim: raw.intermediate_size,
      nLayers: raw.num_hidden_layers,
      nHeads: raw.num_attention_heads,
      nHeadsKv: raw.num_key_value_heads ?? raw.num_attention_heads,
      headDim: raw.head_dim ?? raw.hidden_size / raw.num_attention_heads,
      vocabSize: raw.vocab_size,
      contextLength: raw.max_position_embeddings,
      normEps: raw.rms_norm_eps,
      ropeTheta: raw.rope_theta ?? rope.rope_theta ?? 10000,
      ropeScaling: scalingOf(rope, raw.max_position_embeddings, path, refuse),
      slidingWindow: known.slides ? windowOf(raw) : null,
      activation: raw.hidden_act,
    },
    extras: new Set([...known.extras, ...Object.entries(biases).flatMap(([field, names]) => raw[field] ? names : [])]),
    quantisation: quantisationOf(raw.quantization_config ?? quantizeConfig, path, refuse),
  };
}

type Refuse = (field: string, value: unknown, hint: string) => never;

/** transformers 5 writes rope_parameters, others rope_scaling; neither: plain embeddings. */
function ropeOf(raw: Json, refuse: Refuse): Json {
  const rope = raw.rope_parameters ?? raw.rope_scaling ?? {};
  const whole = 'Use a model that rotates whole heads, all layers alike.';
  if (!isObject(rope) || Object.values(rope).some(isObject)) return refuse(raw.rope_parameters ? 'rope_parameters' : 'rope_scaling', rope, whole);
  const part = raw.partial_rotary_factor ?? rope.partial_rotary_factor ?? 1;
  if (part !== 1) refuse('partial_rotary_factor', part, whole);
  return rope;
}

function scalingOf(rope: Json, contextLength: unknown, path: string, refuse: Refuse): RopeScaling | null {
  const type = rope.rope_type ?? rope.type ?? 'default';
  const originalLength = rope.original_max_position_embeddings ?? contextLength;
  const number = (field: string, missing?: number): number => {
    const value = rope[field] ?? missing;
    if (!Number.isFinite(value)) throw new BadModelFileError(path, `rope_scaling.${field}`, `${shown(value)} is no number`);
    return value;
  };
  switch (type) {
    case 'default': return null;
    case 'linear': return { type, factor: number('factor') };
    case 'llama3': return { type, factor: number('factor'), originalLength, low: number('low_freq_factor'), high: number('high_freq_factor') };
    case 'yarn': {
      // Two more factors make another attention factor, unless they are equal.
      const { mscale, mscale_all_dim: all } = rope, given = rope.attention_factor ?? null;
      if (given === null && mscale && all && mscale !== all) refuse('rope_scaling.mscale', mscale, 'Use a model that gives attention_factor, or neither.');
      const attention = given === null && mscale && all ? 1 : given;
      return {
        type, factor: number('factor'), originalLength, low: number('beta_slow', 1), high: number('beta_fast', 32), truncate: rope.truncate ?? true, attention,
      };
    }
    default: return refuse('rope_scaling.rope_type', type, 'linear, llama3 and yarn are.');
  }
}

/** The narrowest attention of any layer. */
function windowOf(raw: Json): unknown {
  const { sliding_window: window = DEFAULT_WINDOW, max_window_layers: first = 0, layer_types: types, num_hidden_layers: nLayers, max_position_embeddings: context } = raw;
  const slides = raw.model_type === 'mistral'
    || (raw.use_sliding_window === true && (Array.isArray(types) ? types.includes('sliding_attention') : first < nLayers));
  return !slides || window === null || window >= context ? null : window;
}

function quantisationOf(given: unknown, path: string, refuse: Refuse): Quantisation | null {
  if (given === undefined || given === null) return null;
  const field = (name: string) => `quantization_config.${name}`;
  if (!isObject(given)) return refuse('quantization_config', given, 'Use the unquantised model.');
  const method = given.quant_method ?? (given.bits === undefined ? undefined : 'gptq');
  if (method === 'bitnet') {
    // AutoBitLinear multiplies by the scale, the older BitLinear divides by it.
    const linear = given.linear_class ?? 'bitlinear', mode = given.quantization_mode ?? 'offline';
    if (linear !== 'bitlinear' && linear !== 'autobitlinear') refuse(field('linear_class'), linear, 'bitlinear and autobitlinear are.');
    if (mode !== 'offline' && mode !== 'online') refuse(field('quantization_mode'), mode, 'offline and online are.');
    if (given.use_rms_norm) refuse(field('use_rms_norm'), given.use_rms_norm, 'Use a model without norms inside its linear layers.');
    const kept = Array.isArray(given.modules_to_not_convert) ? given.modules_to_not_convert.filter(name => name !== 'lm_head') : [];
    if (mode === 'online' && kept.length > 0) refuse(field('modules_to_not_convert'), kept, 'Use a model whose layers are all ternary.');
    return { method, online: mode === 'online', divides: linear === 'bitlinear' };
  }
  if (method === 'gptq') {
    const { bits, group_size: groupSize } = given, format = given.checkpoint_format ?? 'gptq';
    if (![2, 3, 4, 8].includes(bits)) refuse(field('bits'), bits, '2, 3, 4 and 8 are.');
    if (groupSize !== -1 && !(Number.isInteger(groupSize) && groupSize >= 1)) throw new BadModelFileError(path, field('group_size'), `${shown(groupSize)} is no group size`);
    if (format !== 'gptq' && format !== 'gptq_v2') refuse(field('checkpoint_format'), format, 'gptq and gptq_v2 are.');
    return { method, bits, groupSize, zeroOffset: format === 'gptq' ? 1 : 0 };
  }
  return refuse(field('quant_method'), method, 'Use the unquantised model, or one made by BitNet or GPTQ.');
}
