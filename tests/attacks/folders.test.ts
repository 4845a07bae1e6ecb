// serial
/** Folders of Hugging Face models and of ELUTQ: config.json, tokenizer.json and weights that lie, one at a time. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ChatTemplate } from '../../src/chat/conversation.js';
import { detect } from '../../src/formats/detect.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import { serialiseSafetensorsHeader } from '../../src/formats/safetensors.js';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { hfConfig, llamaTensors, tokenizerJson, type Tensor, type Tensors } from '../formats/hf-folder.js';
import { elutqConfig, elutqFiles } from '../formats/elutq-folder.js';
import { bf16Tensor, concat, safetensors } from '../formats/synthetic.js';
import { u64 } from '../formats/gguf-file.js';
import { measure, type Attack } from './measured.js';

type Files = Record<string, Uint8Array | string | object | null>;
const BAD = 'BAD_MODEL_FILE', UNSUPPORTED = 'UNSUPPORTED_FORMAT';
const nested = (depth: number, open: string, close: string) => open.repeat(depth) + close.repeat(depth);

/** As far as a model is read without its weights: header, tokenizer, a text, a chat. */
async function read(folder: string): Promise<void> {
  const found = await detect(folder);
  if (!('source' in found)) throw new Error('packed');
  const { tokenizerJson: bytes, config, chat, close } = found.source;
  await close();
  const tokenizer = new Tokenizer(bytes, config, folder, chat?.template);
  tokenizer.encode('ABC');
  if (chat) new ChatTemplate(chat, tokenizer.guarded, folder).write([{ role: 'user', content: 'A' }], true);
}

const write = (files: Files) => (folder: string) => {
  for (const [name, content] of Object.entries(files)) {
    if (content === null) continue;
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content instanceof Uint8Array || typeof content === 'string' ? content : JSON.stringify(content));
  }
};
const model = (): Files => ({ 'config.json': hfConfig, 'tokenizer.json': tokenizerJson, 'model.safetensors': safetensors(llamaTensors()) });

const header = (json: string, length = BigInt(json.length), data = 0) => concat(u64(length), new TextEncoder().encode(json), new Uint8Array(data));
/** A sound file with another header. */
function lying(change: (header: Record<string, any>) => void, tensors = llamaTensors()): Uint8Array {
  const file = safetensors(tensors), length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const json = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  change(json);
  return concat(header(JSON.stringify(json)), file.subarray(8 + length));
}
const norm = 'model.norm.weight', first = 'model.embed_tokens.weight';
const set = (fields: object, name = norm) => lying(json => { Object.assign(json[name], fields); });

/** What model.safetensors is; field of the error. */
const containers: [string, () => Uint8Array, string | RegExp, string?][] = [
  ['nothing', () => new Uint8Array(0), 'header length'],
  ['seven bytes', () => new Uint8Array(7), 'header length'],
  ['no header', () => header('', 0n), 'header'],
  ['a header of one byte', () => header('{}', 1n), 'header'],
  ['a header longer than the file', () => header('{}', 3n), 'header length'],
  ['a header of 2^53 bytes', () => header('{}', 2n ** 53n), 'header length'],
  ['a header of 2^63 bytes', () => header('{}', 2n ** 63n), 'header length'],
  ['a header of 2^64 - 1 bytes', () => header('{}', 2n ** 64n - 1n), 'header length'],
  ['a header of 100 MB', () => header(`{}${' '.repeat(100e6)}`), 'header length'],
  ['a header that is no JSON', () => header('{"a":'), 'header'],
  ['a header that is a list', () => header('[]'), 'header'],
  ['a header that is no UTF-8', () => concat(u64(4), Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d)), 'header'],
  ['eight million brackets', () => header(`{"a":${nested(4e6, '[', ']')}}`), 'header'],
  ['four million objects', () => header('{"a":'.repeat(3e6)), 'header'],
  ['a string of 16 MB', () => header(`{"a":"${'x'.repeat(16e6 - 100)}"}`), 'a'],
  ['250000 tensors', () => header(`{${Array.from({ length: 250_000 }, (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(',')}}`), 'header'],
  ['60000 tensors that overlap', () => header(`{${Array.from({ length: 60_000 }, (_, i) => `"${i}":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}`).join(',')}}`, undefined, 8), /^\d+$/],
  ['a name twice', () => header('{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[9],"data_offsets":[0,8]}}', undefined, 8), 'a'],
  ['metadata that is no map', () => lying(json => { json.__metadata__ = 'pt'; }), '__metadata__'],
  ['metadata of numbers', () => lying(json => { json.__metadata__ = { format: 3 }; }), '__metadata__'],
  ['a tensor that is a number', () => lying(json => { json[norm] = 5; }), norm],
  ['a dtype that does not exist', () => set({ dtype: 'F7' }), norm, UNSUPPORTED],
  ['a dtype of every object', () => set({ dtype: 'constructor' }), norm, UNSUPPORTED],
  ['another dtype of the same size', () => set({ dtype: 'I16' }), norm, UNSUPPORTED],
  ['a negative shape', () => set({ shape: [-48] }), norm],
  ['a fractional shape', () => set({ shape: [48.5] }), norm],
  ['a shape that overflows', () => set({ shape: [2 ** 52, 2 ** 52] }), norm],
  ['a shape whose product wraps to the right size', () => set({ shape: [48, 4294967296, 4294967296] }), norm],
  ['a shape of a thousand dimensions', () => set({ shape: new Array(1000).fill(1) }), norm],
  ['no shape', () => set({ shape: undefined }), norm],
  ['offsets backwards', () => lying(json => { json[norm].data_offsets.reverse(); }), norm],
  ['offsets that are text', () => set({ data_offsets: ['0', '96'] }), norm],
  ['negative offsets', () => set({ data_offsets: [-96, 0] }), norm],
  ['offsets in another tensor', () => lying(json => { json[norm].data_offsets = [0, 96]; }), /./],
  ['offsets behind the file', () => lying(json => { json[norm].data_offsets = json[norm].data_offsets.map((at: number) => at + 2 ** 40); }), norm],
  ['a hole between tensors', () => lying(json => { for (const [name, one] of Object.entries<any>(json)) if (name !== first && one.data_offsets) one.data_offsets = one.data_offsets.map((at: number) => at + 8); }), /./],
  ['bytes behind the last', () => concat(safetensors(llamaTensors()), new Uint8Array(1)), 'size'],
  ['a byte missing', () => safetensors(llamaTensors()).subarray(0, -1), 'size'],
  ['a tensor missing', () => safetensors(without(llamaTensors(), norm)), norm],
  ['a tensor too many', () => safetensors({ ...llamaTensors(), 'model.layers.0.self_attn.magic': bf16Tensor([4], new Float32Array(4)) }), 'model.layers.0.self_attn.magic', UNSUPPORTED],
  ['another shape', () => safetensors({ ...llamaTensors(), [norm]: bf16Tensor([49], new Float32Array(49)) }), norm],
  ['a GGUF file', () => new TextEncoder().encode('GGUF\x03\0\0\0\0\0\0\0'), 'header length'],
];
function without(tensors: Tensors, name: string): Tensors {
  const { [name]: _, ...rest } = tensors as Record<string, Tensor>;
  return rest;
}

/** Fields of config.json; field of the error where it has another name. */
const configs: [string, () => object | string, string | RegExp, string?][] = [
  ['nothing', () => '', 'JSON'],
  ['no JSON', () => '{"model_type":', 'JSON'],
  ['a list', () => '[]', 'JSON'],
  ['brackets', () => nested(3e5, '[', ']'), 'JSON'],
  ['brackets in an object', () => `{"model_type": ${nested(5e5, '[', ']')}}`, 'model_type', UNSUPPORTED],
  ['a text of 8 MB', () => `{"model_type": "${'x'.repeat(8e6)}"}`, 'size'],
  ['no architecture', () => ({ ...hfConfig, model_type: undefined }), 'model_type', UNSUPPORTED],
  ['an architecture of every object', () => ({ ...hfConfig, model_type: 'constructor' }), 'model_type', UNSUPPORTED],
  ['an architecture with a long name', () => ({ ...hfConfig, model_type: 'x'.repeat(1e6) }), 'model_type', UNSUPPORTED],
  ['2^53 layers', () => ({ ...hfConfig, num_hidden_layers: 2 ** 53 }), 'config.nLayers'],
  ['65536 layers', () => ({ ...hfConfig, num_hidden_layers: 65536 }), 'num_hidden_layers'],
  ['a layer too many', () => ({ ...hfConfig, num_hidden_layers: 3 }), 'model.layers.2.self_attn.q_proj.weight'],
  ['a layer too few', () => ({ ...hfConfig, num_hidden_layers: 1 }), /^model\.layers\.1\./, UNSUPPORTED],
  ['no width', () => ({ ...hfConfig, hidden_size: 0 }), 'config.dim'],
  ['a width of 2^60', () => ({ ...hfConfig, hidden_size: 2 ** 60 }), 'config.dim'],
  ['a width that is text', () => ({ ...hfConfig, hidden_size: '48' }), 'config.dim'],
  ['heads that share unevenly', () => ({ ...hfConfig, num_key_value_heads: 2 }), 'config.nHeadsKv'],
  ['heads of 2^24', () => ({ ...hfConfig, num_attention_heads: 2 ** 24, num_key_value_heads: 1, head_dim: 2 ** 24 }), 'config.headDim'],
  ['an odd head', () => ({ ...hfConfig, head_dim: 11 }), 'config.headDim'],
  ['a vocabulary of 2^24', () => ({ ...hfConfig, vocab_size: 2 ** 24 }), 'model.vocab'],
  ['an epsilon of 0', () => ({ ...hfConfig, rms_norm_eps: 0 }), 'config.normEps'],
  ['a theta of 1e300', () => ({ ...hfConfig, rope_theta: 1e300 }), 'config.ropeTheta'],
  ['positions scaled by 0', () => ({ ...hfConfig, rope_scaling: { type: 'linear', factor: 0 } }), 'config.ropeScaling'],
  ['positions scaled in an unknown way', () => ({ ...hfConfig, rope_scaling: { type: '__proto__', factor: 2 } }), /rope_scaling/, UNSUPPORTED],
  ['BOS outside of the vocabulary', () => ({ ...hfConfig, bos_token_id: 40 }), 'config.bosId'],
  ['a thousand ends', () => ({ ...hfConfig, eos_token_id: Array.from({ length: 1000 }, (_, i) => i) }), 'config.eosIds'],
  ['a quantisation nobody knows', () => ({ ...hfConfig, quantization_config: { quant_method: 'magic' } }), 'quantization_config.quant_method', UNSUPPORTED],
  ['GPTQ in groups of 0', () => ({ ...hfConfig, quantization_config: { quant_method: 'gptq', bits: 4, group_size: 0 } }), 'quantization_config.group_size'],
];

const bpe = tokenizerJson.model;
/** tokenizer.json. */
const tokenizers: [string, () => object | string, string | RegExp][] = [
  ['nothing', () => '', 'JSON'],
  ['brackets', () => `{"model": ${nested(2e6, '[', ']')}}`, 'JSON'],
  ['no vocabulary', () => ({ ...tokenizerJson, model: { type: 'BPE' } }), 'model.vocab'],
  ['a vocabulary that is a text', () => ({ ...tokenizerJson, model: { ...bpe, vocab: 'x'.repeat(1e6) } }), 'model.vocab'],
  ['ids of 2^53', () => ({ ...tokenizerJson, model: { ...bpe, vocab: { A: 2 ** 53 } } }), 'model.vocab'],
  ['ids that are text', () => ({ ...tokenizerJson, model: { ...bpe, vocab: { A: '0' } } }), 'model.vocab'],
  ['negative ids', () => ({ ...tokenizerJson, model: { ...bpe, vocab: { ...bpe.vocab, A: -1 } } }), 'model.vocab'],
  ['a vocabulary of another size', () => ({ ...tokenizerJson, model: { ...bpe, vocab: { A: 0 } } }), 'model.vocab'],
  ['200000 pieces for 40', () => ({ ...tokenizerJson, model: { ...bpe, vocab: Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`p${i}`, i])) } }), 'model.vocab'],
  ['a piece of 12 MB', () => ({ ...tokenizerJson, model: { ...bpe, vocab: { ['x'.repeat(12e6)]: 0 } } }), 'model.vocab'],
  ['an added token outside', () => ({ ...tokenizerJson, added_tokens: [{ id: 41, content: 'x', special: true }] }), 'model.vocab'],
  ['added tokens that are none', () => ({ ...tokenizerJson, added_tokens: [null, 3] }), 'model.vocab'],
  ['merges of numbers', () => ({ ...tokenizerJson, model: { ...bpe, merges: [1, 2] } }), 'tokenizer'],
  ['a model nobody knows', () => ({ ...tokenizerJson, model: { ...bpe, type: 'Magic' } }), 'model.type'],
  ['a pattern that takes forever', () => ({ ...tokenizerJson, pre_tokenizer: { type: 'Split', pattern: { Regex: '(A+)+$' }, behavior: 'Isolated' } }), 'tokenizer'],
];

/** tokenizer_config.json with a template. */
const templates: [string, object, string, string?][] = [
  ['a template of 200000 characters', { chat_template: 'x'.repeat(200_000) }, BAD, 'chat.template'],
  ['a token of 300 characters', { chat_template: 'x', bos_token: 'x'.repeat(300) }, BAD, 'chat.tokens.bos_token'],
  ['a template without an end', { chat_template: '{% for i in range(10 ** 12) %}x{% endfor %}' }, 'CHAT_TEMPLATE'],
  ['a template that calls itself', { chat_template: '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}' }, 'CHAT_TEMPLATE'],
  ['a template that is cut', { chat_template: '{% for m in messages %}{{ m.content' }, 'CHAT_TEMPLATE'],
];

/** What the metadata of a packed model hold. */
const packed: [string, () => Record<string, string>, string, string?][] = [
  ['nothing', () => ({ format: 'lutra' }), '__metadata__.lutra'],
  ['no JSON', () => ({ format: 'lutra', lutra: '{' }), '__metadata__.lutra'],
  ['brackets', () => ({ format: 'lutra', lutra: `{"version":${nested(5e6, '[', ']')}}` }), 'header'],
  ['brackets, as many as may be', () => ({ format: 'lutra', lutra: `{"version":${nested(1e5, '[', ']')}}` }), 'version', UNSUPPORTED],
  ['a text of 12 MB', () => ({ format: 'lutra', lutra: `{"version":1,"config":"${'x'.repeat(12e6)}"}` }), 'config'],
  ['a configuration without weights', () => ({ format: 'lutra', lutra: '{"version":1,"config":{}}' }), 'config.architecture'],
];

const q = '0/self_attn.q_proj', planes = { base_bit: 2, use_sparse: false, in_channel: 128, out_channel: 128, has_bias: false };
/** A file of an ELUTQ folder; null: not there. */
const elutq: [string, string, Uint8Array | object | null, string | RegExp | undefined, string?][] = [
  ['codes too short', `${q}/w_quant.bin`, new Uint8Array(100), 'size'],
  ['codes of the next size', `${q}/w_quant.bin`, new Uint8Array(3 * 128 * 16), 'size'],
  ['no codes', `${q}/w_quant.bin`, null, undefined, 'FILE_ACCESS'],
  ['scales too long', `${q}/w_scale.bin`, new Uint8Array(2 * (2 * 128 * 4 + 1)), 'size'],
  ['no scales', `${q}/w_scale.bin`, new Uint8Array(0), 'size'],
  ['zeros of no group size', `${q}/w_zero.bin`, new Uint8Array(2 * 128 * 3), 'size'],
  ['zeros of half a half', `${q}/w_zero.bin`, new Uint8Array(2 * 128 * 4 - 1), 'size'],
  ['no zeros', `${q}/w_zero.bin`, new Uint8Array(0), 'size'],
  ['another group size', `${q}/weight_config.json`, { ...planes, groupsize: 64 }, 'groupsize'],
  ['no planes', `${q}/weight_config.json`, { ...planes, base_bit: 0 }, 'base_bit'],
  ['nine planes', `${q}/weight_config.json`, { ...planes, base_bit: 9 }, 'base_bit'],
  ['planes that are text', `${q}/weight_config.json`, { ...planes, base_bit: '2' }, 'base_bit'],
  ['a shape of 2^60', `${q}/weight_config.json`, { ...planes, in_channel: 2 ** 30, out_channel: 2 ** 30 }, 'in_channel'],
  ['a shape of 2^48', `${q}/weight_config.json`, { ...planes, in_channel: 2 ** 24, out_channel: 2 ** 24 }, 'size'],
  ['columns that fill no bytes', `${q}/weight_config.json`, { ...planes, in_channel: 126 }, 'in_channel'],
  ['another shape than the model', `${q}/weight_config.json`, { ...planes, in_channel: 64, out_channel: 256 }, /./],
  ['sparse planes', `${q}/weight_config.json`, { ...planes, use_sparse: true }, 'use_sparse', UNSUPPORTED],
  ['no JSON', `${q}/weight_config.json`, Uint8Array.of(0x7b), 'JSON'],
  ['a megabyte of JSON', `${q}/weight_config.json`, { ...planes, x: 'x'.repeat(1e6) }, 'size'],
  ['a norm too long', '0/input_layernorm_weight.bin', new Uint8Array(2 * 129), /input_layernorm/],
  ['an embedding of half a row', 'shared_embed_lm_head.bin', new Uint8Array(2 * (40 * 128 - 64)), 'size'],
  ['an embedding of another vocabulary', 'shared_embed_lm_head.bin', new Uint8Array(2 * 41 * 128), /embed_tokens/],
  ['norms with biases', '1/rmsnorm_bias.bin', new Uint8Array(256), 'norm', UNSUPPORTED],
  ['a million layers', 'config.json', { ...elutqConfig, num_hidden_layers: 1e6 }, 'num_hidden_layers'],
  ['a layer that is not there', 'config.json', { ...elutqConfig, num_hidden_layers: 3 }, undefined, 'FILE_ACCESS'],
  ['a width of 2^53', 'config.json', { ...elutqConfig, hidden_size: 2 ** 53 }, 'hidden_size'],
  ['a width that is not there', 'config.json', { ...elutqConfig, hidden_size: undefined }, 'hidden_size'],
];

const attack = (name: string, files: () => Files, code: string | null, field?: string | RegExp): Attack => ({ name, make: folder => write(files())(folder), read, code, ...(field !== undefined && { field }) });
const attacks: Attack[] = [
  attack('a sound folder', model, null),
  ...containers.map(([name, bytes, field, code = BAD]) => attack(`safetensors: ${name}`, () => ({ ...model(), 'model.safetensors': bytes() }), code, field)),
  ...configs.map(([name, config, field, code = BAD]) => attack(`config.json: ${name}`, () => ({ ...model(), 'config.json': config() }), code, field)),
  ...tokenizers.map(([name, tokenizer, field]) => attack(`tokenizer.json: ${name}`, () => ({ ...model(), 'tokenizer.json': tokenizer() }), BAD, field)),
  ...templates.map(([name, config, code, field]) => attack(`tokenizer_config.json: ${name}`, () => ({ ...model(), 'tokenizer_config.json': config }), code, field)),
  ...packed.map(([name, metadata, field, code = BAD]): Attack => ({
    name: `packed model: ${name}`, code, field,
    make: folder => writeFileSync(join(folder, 'x.safetensors'), serialiseSafetensorsHeader(metadata(), [], 64)),
    read: async folder => {
      const found = await detect(join(folder, 'x.safetensors'));
      if ('packed' in found) await readPackedHeader(found.packed).finally(() => found.packed.close());
    },
  })),
  attack('a sound ELUTQ folder', elutqFiles, null),
  ...elutq.map(([name, path, content, field, code = BAD]) => attack(`ELUTQ: ${name}`, () => ({ ...elutqFiles(), [path]: content }), code, field)),
];

await measure('folders that lie', import.meta.url, attacks);
