import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { repoRoot } from '../helpers/paths.js';
import { detect } from '../../src/formats/detect.js';
import { importHuggingFace } from '../../src/formats/hf.js';
import { readRows, type SourceModel } from '../../src/formats/source.js';
import { refused, refusedOrMissing } from './attack.js';
import { bitnetConfig, bitnetTensors, hfConfig, hfFolder, llamaTensors, tensorsOf, tokenizerJson, trit, type Folder, type Tensors } from './hf-folder.js';
import { bf16Tensor, bytesOf, f32Tensor, safetensors } from './synthetic.js';

async function inFolder<T>(config: object, tensors: Tensors, work: (folder: Folder) => Promise<T>, tokenizer: object = tokenizerJson): Promise<T> {
  const folder = hfFolder(config, tensors, tokenizer);
  try {
    return await work(folder);
  } finally {
    folder.remove();
  }
}

const bytesOfMatrix = async (model: SourceModel, name: string) => {
  const matrix = model.matrices.get(name)!;
  return readRows(matrix.codes, 0, matrix.rows, name);
};

test('Llama: config, bytes of every matrix, norms', async () => {
  const f16Tensor = (shape: number[], values: Float32Array) => ({ dtype: 'F16', shape, bytes: new Uint8Array(2 * values.length).fill(0x3c) });
  for (const [make, encoding] of [[bf16Tensor, 'bf16'], [f32Tensor, 'f32'], [f16Tensor, 'f16']] as const) {
    const tensors = llamaTensors(hfConfig, make);
    await inFolder(hfConfig, tensors, async ({ path }) => {
      const model = await importHuggingFace(path);
      assert.equal(model.config, {
        architecture: 'llama', dim: 48, hiddenDim: 44, nLayers: 2, nHeads: 3, nHeadsKv: 1, headDim: 10, vocabSize: 40, contextLength: 64, normEps: 1e-6,
        ropeTheta: 10000, ropeScaling: null, slidingWindow: null, activation: 'silu', tiedHead: true, bosId: 0, eosIds: [1, 2], addBos: true,
      });
      assert.is(model.matrices.get('embedding')!.encoding, encoding);
      assert.equal(await bytesOfMatrix(model, 'layers.1.ffn.down'), tensors['model.layers.1.mlp.down_proj.weight']!.bytes.slice());
      assert.equal(await bytesOfMatrix(model, 'layers.0.attn.q'), tensors['model.layers.0.self_attn.q_proj.weight']!.bytes.slice());
      const norm = model.vectors.get('layers.1.ffn.norm')!, stored = tensors['model.layers.1.post_attention_layernorm.weight']!.bytes;
      if (encoding === 'f16') assert.equal(norm, new Float32Array(48).fill(1.05859375));
      else if (encoding === 'bf16') assert.equal(Array.from(new Uint32Array(norm.buffer), bits => bits >>> 16), Array.from(new Uint16Array(stored.slice().buffer)));
      else assert.equal(norm, new Float32Array(stored.slice().buffer));
      assert.is(model.vectors.size, 5);
      await model.close();
    });
  }
});

test('BitNet: trits, sub-norms, and the two directions of the scale', async () => {
  for (const [linearClass, expected] of [['autobitlinear', 0.25], ['bitlinear', 4], [undefined, 4]] as const) {
    const config = { ...bitnetConfig, quantization_config: { quant_method: 'bitnet', ...(linearClass && { linear_class: linearClass }) } };
    await inFolder(config, bitnetTensors(), async ({ path }) => {
      const model = await importHuggingFace(path);
      assert.is(model.config.activation, 'relu2');
      assert.is(model.vectors.get('layers.0.attn.subNorm')!.length, 30);
      assert.is(model.vectors.get('layers.0.ffn.subNorm')!.length, 44);
      for (const [name, hf] of [['attn.q', 'self_attn.q_proj'], ['ffn.gate', 'mlp.gate_proj'], ['ffn.down', 'mlp.down_proj']] as const) {
        const matrix = model.matrices.get(`layers.0.${name}`)!, bytes = await bytesOfMatrix(model, `layers.0.${name}`);
        assert.is(matrix.encoding, 'ternary2');
        assert.is(matrix.scale, expected);
        for (let r = 0; r < matrix.rows; r++) for (let k = 0; k < matrix.cols; k++) assert.is((bytes[r * matrix.cols + k]! >> matrix.phase!(r) & 3) - 1, trit(hf, r, k));
      }
      await model.close();
    });
  }
});

test('shards, an own head, generation_config, add_bos_token', async () => {
  const config = { ...hfConfig, tie_word_embeddings: false, eos_token_id: 2 }, all = { ...llamaTensors(), 'lm_head.weight': llamaTensors()['model.embed_tokens.weight']! };
  await inFolder(config, all, async folder => {
    const entries = Object.entries(all), files = { 'a-1.safetensors': entries.slice(0, 9), 'a-2.safetensors': entries.slice(9) };
    rmSync(join(folder.path, 'model.safetensors'));
    for (const [name, part] of Object.entries(files)) folder.write(name, safetensors(Object.fromEntries(part)));
    const map = Object.fromEntries(Object.entries(files).flatMap(([file, part]) => part.map(([name]) => [name, file])));
    folder.write('model.safetensors.index.json', { metadata: {}, weight_map: map });
    folder.write('generation_config.json', { eos_token_id: [2, 5] });
    folder.write('tokenizer_config.json', { add_bos_token: false });
    const model = await importHuggingFace(folder.path);
    assert.equal(model.config.eosIds, [2, 5]);
    assert.is(model.config.addBos, false);
    assert.is(model.config.tiedHead, false);
    assert.equal(await bytesOfMatrix(model, 'head'), all['lm_head.weight'].bytes.slice());
    await model.close();

    for (const [name, attack] of Object.entries({
      'a path as a shard': { ...map, x: '../../etc/passwd' }, 'a number as a shard': { ...map, x: 5 }, 'a shard that is not there': { ...map, x: 'a-3.safetensors' },
      'a tensor that is elsewhere': { ...map, 'model.norm.weight': 'a-1.safetensors' }, 'nothing': {},
    })) {
      folder.write('model.safetensors.index.json', { weight_map: attack });
      await refusedOrMissing(() => importHuggingFace(folder.path), name);
    }
  });
});

test('what is not supported is refused, not computed wrongly', async () => {
  const gptq = { quant_method: 'gptq', bits: 4, group_size: 32 }, bitnet = { quant_method: 'bitnet' };
  for (const [field, value, culprit = field] of [
    ['model_type', 'gemma2'], ['model_type', '__proto__'], ['hidden_act', 'gelu'], ['partial_rotary_factor', 0.5],
    ['rope_scaling', { rope_type: 'dynamic', factor: 8 }], ['rope_scaling', { type: 'longrope', factor: 8 }], ['rope_scaling', 'linear'],
    ['rope_scaling', { rope_type: 'yarn', factor: 4, mscale: 1, mscale_all_dim: 0.5 }], ['rope_parameters', { full_attention: { rope_type: 'default' } }],
    ['rope_parameters', { rope_type: 'default', partial_rotary_factor: 0.25 }, 'partial_rotary_factor'],
    ['quantization_config', { quant_method: 'awq', bits: 4 }], ['quantization_config', 'gptq'], ['quantization_config', { ...gptq, bits: 5 }], ['quantization_config', { ...gptq, checkpoint_format: 'marlin' }],
    ['quantization_config', { ...bitnet, linear_class: 'other' }], ['quantization_config', { ...bitnet, quantization_mode: 'lazy' }], ['quantization_config', { ...bitnet, use_rms_norm: true }],
    ['quantization_config', { ...bitnet, quantization_mode: 'online', modules_to_not_convert: ['model.layers.0.mlp.up_proj'] }],
  ] as [string, unknown, string?][]) {
    const error = await inFolder({ ...hfConfig, [field]: value }, llamaTensors(), ({ path }) => refused(() => importHuggingFace(path), 'config.json', `${field} ${JSON.stringify(value)}`));
    assert.is(error.code, 'UNSUPPORTED_FORMAT', field);
    assert.match(error.field, culprit === 'rope_scaling' ? /rope_scaling/ : culprit);
  }
  const { 'model.norm.weight': norm, ...rest } = llamaTensors(), bias = bf16Tensor([30], new Float32Array(30));
  for (const [name, tensors, file, changes = {}] of [
    ['a bias', { ...llamaTensors(), 'model.layers.0.self_attn.q_proj.bias': bias }, 'model.safetensors'],
    ['no biases where there should be some', llamaTensors(), 'lutra-hf-', { attention_bias: true }],
    ['no biases of Qwen2', llamaTensors(), 'lutra-hf-', { model_type: 'qwen2' }],
    ['no norms of Qwen3', llamaTensors(), 'lutra-hf-', { model_type: 'qwen3' }],
    ['integer weights', { ...rest, 'model.norm.weight': { ...norm!, dtype: 'I16' } }, 'model.safetensors'],
    ['a missing tensor', rest, 'lutra-hf-'],
    ['a sub-norm in no layer but one', { ...llamaTensors(), 'model.layers.1.self_attn.attn_sub_norm.weight': bf16Tensor([30], new Float32Array(30)) }, 'model.safetensors'],
    ['packed trits that nothing explains', bitnetTensors(), 'model.safetensors', { ...bitnetConfig, quantization_config: undefined }],
  ] as [string, Tensors, string, object?][]) {
    await inFolder({ ...hfConfig, ...changes }, tensors, ({ path }) => refused(() => importHuggingFace(path), file, name));
  }
});

test('rotary embeddings: both ways to write them, and numbers that make no sense', async () => {
  const scaling = async (changes: object) => inFolder({ ...hfConfig, ...changes }, llamaTensors(), async ({ path }) => {
    const { config, close } = await importHuggingFace(path);
    await close();
    return [config.ropeTheta, config.ropeScaling];
  });
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 };
  const expected = { type: 'llama3', factor: 8, originalLength: 32, low: 1, high: 4 };
  assert.equal(await scaling({ rope_scaling: llama3 }), [10000, expected]);
  assert.equal(await scaling({ rope_theta: undefined, rope_parameters: { rope_theta: 5e5, ...llama3 } }), [5e5, expected]);
  assert.equal(await scaling({ rope_scaling: { type: 'linear', factor: 4 } }), [10000, { type: 'linear', factor: 4 }]);
  assert.equal(await scaling({ rope_scaling: null, rope_parameters: { rope_type: 'default', rope_theta: 1e6 } , rope_theta: undefined }), [1e6, null]);
  const yarn = { type: 'yarn', factor: 4, originalLength: 64, low: 1, high: 32, truncate: true, attention: null };
  assert.equal(await scaling({ rope_scaling: { rope_type: 'yarn', factor: 4 } }), [10000, yarn]);
  assert.equal(await scaling({ rope_scaling: { rope_type: 'yarn', factor: 4, beta_fast: 16, attention_factor: 0.9, truncate: false } }), [10000, { ...yarn, high: 16, attention: 0.9, truncate: false }]);
  assert.equal(await scaling({ rope_scaling: { rope_type: 'yarn', factor: 4, mscale: 0.7, mscale_all_dim: 0.7 } }), [10000, { ...yarn, attention: 1 }]);
  for (const broken of [
    { ...llama3, factor: 0 }, { ...llama3, factor: '8' }, { ...llama3, factor: -1 }, { ...llama3, low_freq_factor: 4 }, { ...llama3, high_freq_factor: undefined },
    { ...llama3, original_max_position_embeddings: 0 }, { ...llama3, original_max_position_embeddings: 2 ** 40 }, { rope_type: 'linear' }, { rope_type: 'linear', factor: 1e300 },
    { rope_type: 'yarn', factor: 4, attention_factor: 1e9 }, { rope_type: 'yarn', factor: 4, truncate: 'yes' }, { rope_type: 'yarn', factor: 4, beta_slow: [] },
  ]) {
    await inFolder({ ...hfConfig, rope_scaling: broken }, llamaTensors(), ({ path }) => refused(() => importHuggingFace(path), 'config.json', JSON.stringify(broken)));
  }
});

test('sliding windows: where a layer has one that is shorter than the context', async () => {
  const norms = Object.fromEntries(['q', 'k'].flatMap(part => [0, 1].map(i => [`model.layers.${i}.self_attn.${part}_norm.weight`, f32Tensor([10], new Float32Array(10).fill(1))])));
  const window = (changes: object) => inFolder({ ...hfConfig, ...changes }, { ...llamaTensors(), ...('use_sliding_window' in changes ? norms : {}) }, async ({ path }) => {
    const { config, close } = await importHuggingFace(path);
    await close();
    return config.slidingWindow;
  });
  assert.is(await window({ sliding_window: 16 }), null, 'Llama has none');
  assert.is(await window({ model_type: 'mistral', sliding_window: 16 }), 16);
  assert.is(await window({ model_type: 'mistral', sliding_window: 64 }), null, 'as long as the context');
  assert.is(await window({ model_type: 'mistral', sliding_window: null }), null);
  assert.is(await window({ model_type: 'mistral', max_position_embeddings: 8192 }), 4096, 'the default of transformers');
  const qwen = { model_type: 'qwen3', sliding_window: 16 };
  assert.is(await window({ ...qwen, use_sliding_window: false }), null);
  assert.is(await window({ ...qwen, use_sliding_window: true }), 16);
  assert.is(await window({ ...qwen, use_sliding_window: true, max_window_layers: 2 }), null, 'no layer slides');
  assert.is(await window({ ...qwen, use_sliding_window: true, layer_types: ['full_attention', 'sliding_attention'] }), 16);
  for (const broken of [0, -5, 'wide']) await inFolder({ ...hfConfig, model_type: 'mistral', sliding_window: broken }, llamaTensors(), ({ path }) => refused(() => importHuggingFace(path), 'config.json', `${broken}`));
});

test('GPTQ: tensors of other types and sizes, groups that are not there', async () => {
  const path = join(repoRoot, 'tests', 'models', 'gptq-4'), config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')), tokenizer = JSON.parse(readFileSync(join(path, 'tokenizer.json'), 'utf8'));
  const all = await tensorsOf(join(path, 'model.safetensors')), name = 'model.layers.0.self_attn.q_proj';
  const i32 = (shape: number[], values: number[]) => ({ dtype: 'I32', shape, bytes: bytesOf(Int32Array.from(values)) });
  const groups = Array.from({ length: 64 }, (_, k) => k >> 5);
  await inFolder(config, all, async ({ path: copy }) => (await importHuggingFace(copy)).close(), tokenizer);
  for (const [what, change] of Object.entries<Tensors>({
    'a short qweight': { [`${name}.qweight`]: i32([8, 63], new Array(8 * 63).fill(0)) },
    'an unsigned qweight': { [`${name}.qweight`]: { ...all[`${name}.qweight`]!, dtype: 'U32' } },
    'scales as bf16': { [`${name}.scales`]: { ...all[`${name}.scales`]!, dtype: 'BF16' } },
    'scales of one group': { [`${name}.scales`]: { dtype: 'F16', shape: [1, 64], bytes: new Uint8Array(128) } },
    'zero points of another width': { [`${name}.qzeros`]: i32([2, 16], new Array(32).fill(0)) },
    'a group behind the last': { [`${name}.g_idx`]: i32([64], groups.with(5, 2)) },
    'a group before the first': { [`${name}.g_idx`]: i32([64], groups.with(63, -1)) },
    'too few groups': { [`${name}.g_idx`]: i32([63], groups.slice(1)) },
    'a tensor nobody knows': { [`${name}.perm`]: i32([64], groups) },
  })) {
    await inFolder(config, { ...all, ...change }, ({ path: copy }) => refused(() => importHuggingFace(copy), 'model.safetensors', what), tokenizer);
  }
  const { [`${name}.qzeros`]: _, ...without } = all;
  await inFolder(config, without, ({ path: copy }) => refused(() => importHuggingFace(copy), 'lutra-hf-', 'no zero points'), tokenizer);
  for (const [field, value] of [['group_size', 0], ['group_size', 1.5], ['group_size', '32'], ['group_size', 16], ['bits', 8], ['bits', 3]] as const) {
    const changed = { ...config, quantization_config: { ...config.quantization_config, [field]: value } };
    await inFolder(changed, all, ({ path: copy }) => refused(() => importHuggingFace(copy), 'lutra-hf-', `${field} ${value}`), tokenizer);
  }
  // Older tools write the configuration into a file of its own.
  const { quantization_config: quantisation, ...bare } = config, { quant_method: _method, ...old } = quantisation;
  await inFolder(bare, all, async folder => {
    await refused(() => importHuggingFace(folder.path), 'lutra-hf-', 'codes that nothing explains');
    folder.write('quantize_config.json', old);
    const model = await importHuggingFace(folder.path);
    assert.is(model.matrices.get('layers.0.attn.q')!.encoding, 'gptq4_sym');
    await model.close();
  }, tokenizer);
});

test('sizes that contradict each other', async () => {
  for (const field of ['hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads', 'head_dim', 'vocab_size', 'max_position_embeddings', 'rms_norm_eps']) {
    for (const value of [0, -1, 6, 1.5, 2 ** 20, 2 ** 31, 1e300, '48', null, {}]) {
      const accepted = (field === 'max_position_embeddings' && (value === 6 || value === 2 ** 20)) || (field === 'rms_norm_eps' && typeof value === 'number' && value > 0);
      if (accepted || (field === 'head_dim' && value === null) || (field === 'num_key_value_heads' && value === null)) continue;
      await inFolder({ ...hfConfig, [field]: value }, llamaTensors(), ({ path }) => refused(() => importHuggingFace(path), 'lutra-hf-', `${field} = ${JSON.stringify(value)}`));
    }
  }
  for (const scale of [0, -1, NaN, Infinity]) {
    await inFolder(bitnetConfig, bitnetTensors(bitnetConfig, scale), ({ path }) => refused(() => importHuggingFace(path), 'model.safetensors', `scale ${scale}`));
  }
});

test('a tokenizer of another size, or none', async () => {
  const sized = (n: number) => ({ ...tokenizerJson, model: { vocab: Object.fromEntries(Array.from({ length: n }, (_, i) => [`t${i}`, i])) } });
  for (const tokenizer of [sized(41), sized(20), {}, { model: {} }, { model: { vocab: { a: 1e9 } } }, { model: { vocab: { a: 'b' } } }, { ...tokenizerJson, added_tokens: [{ id: 40 }] }]) {
    await inFolder(hfConfig, llamaTensors(), ({ path }) => refused(() => importHuggingFace(path), 'tokenizer.json', JSON.stringify(tokenizer).slice(0, 60)), tokenizer);
  }
  await inFolder(hfConfig, llamaTensors(), async ({ path }) => {
    rmSync(join(path, 'tokenizer.json'));
    await refusedOrMissing(() => importHuggingFace(path), 'no tokenizer');
  });
});

test('files cut short', async () => {
  await inFolder(hfConfig, llamaTensors(), async folder => {
    for (const name of ['config.json', 'tokenizer.json', 'model.safetensors']) {
      const whole = readFileSync(join(folder.path, name));
      for (let i = 0; i < 40; i++) {
        folder.write(name, whole.subarray(0, Math.floor(i * whole.length / 40)));
        await refused(() => importHuggingFace(folder.path), name, `${name} cut`);
      }
      folder.write(name, whole);
    }
  });
});

test('a path is recognised by what lies there', async () => {
  await inFolder(hfConfig, llamaTensors(), async folder => {
    const found = await detect(folder.path);
    assert.ok('source' in found);
    await found.source.close();
    await refused(() => detect(join(folder.path, 'model.safetensors')), 'model.safetensors', 'a single safetensors file');
    for (const [name, bytes] of Object.entries({
      'model.gguf': new TextEncoder().encode('GGUF\x03\0\0\0'), 'empty.bin': new Uint8Array(0), 'short.bin': new Uint8Array(5), 'zeros.bin': new Uint8Array(4096), 'text.txt': new TextEncoder().encode('x'.repeat(5000)),
    })) {
      folder.write(name, bytes);
      await refused(() => detect(join(folder.path, name)), name, name);
    }
    await refusedOrMissing(() => detect(join(folder.path, 'nothing.bin')), 'no file');
    rmSync(join(folder.path, 'config.json'));
    await refusedOrMissing(() => detect(folder.path), 'a folder without config.json');
  });
});

test.run();
