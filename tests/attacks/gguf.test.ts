// serial
/**
 * The 33 kinds of files of llama.cpp's tests/test-gguf.cpp, made again from their descriptions: of a header that is right, of
 * random entries, tensors and data, and of one thing that is wrong. Seven of the kinds are sound there; three of those are refused
 * here: a tensor without elements, and tensors whose data are not in the file.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readGguf } from '../../src/formats/gguf.js';
import { openFile } from '../../src/formats/files.js';
import { ggufFile, num, text, typeIds, u32, u64, type Parts, type Raw, type Tensor } from '../formats/gguf-file.js';
import { blockTypes } from '../formats/gguf-blocks.js';
import { concat } from '../formats/synthetic.js';
import { measure, type Attack } from './measured.js';

const MAX = 2n ** 64n - 1n;
/** Bytes of an entry's value, by type id. */
const scalarBytes: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const scalarTypes = Object.keys(scalarBytes).map(Number), STRING = 8, ARRAY = 9;

/** A file of `what` and all that comes before it in a file: header, entries, tensors, data. */
function sound(what: 'header' | 'entries' | 'tensors' | 'data', seed: number): Parts {
  let state = seed;
  const next = (n: number) => Math.floor((state = Math.imul(state, 1664525) + 1013904223 >>> 0) / 2 ** 32 * n);
  const noise = (count: number) => Uint8Array.from({ length: count }, () => 1 + next(127));
  const value = (): Raw => {
    const type = [...scalarTypes, STRING, ARRAY][next(13)]!;
    if (type === STRING) return [STRING, text('x'.repeat(next(64)))];
    if (type !== ARRAY) return [type, noise(scalarBytes[type]!)];
    const element = [...scalarTypes, STRING][next(12)]!, count = next(17);
    return [ARRAY, concat(u32(element), u64(count), ...Array.from({ length: count }, () => element === STRING ? text('y'.repeat(next(5))) : noise(scalarBytes[element]!)))];
  };
  const entries: Parts['entries'] = what === 'header' ? [] : Array.from({ length: 100 }, (_, i) => [`my_key_${i}`, value()]);
  const tensors = what === 'header' || what === 'entries' ? [] : Array.from({ length: 100 }, (_, i): Tensor => {
    const name = Object.keys(blockTypes)[next(12)]!, { elements, bytes } = blockTypes[name]!;
    const dims = [elements * (1 + next(4)), ...Array.from({ length: next(4) }, () => 1 + next(3))];
    return { name: `my_tensor_${i}`, dims, type: typeIds[name]!, bytes: noise(dims.reduce((a, b) => a * b) / elements * bytes) };
  });
  return { entries, tensors };
}

/** Changes the parts; what it returns changes the file. */
type Change = (parts: Parts) => void | ((file: Uint8Array) => Uint8Array);
/** Magic, version and two counts come before it. */
const FIRST_KEY = 4 + 4 + 8 + 8;
const padded = ({ alignment = 32 }: Parts, { bytes: { length } }: Tensor) => Math.ceil(length / alignment) * alignment;
/** Without the bytes of the tensors. */
const noData: Change = parts => file => file.subarray(0, file.length - parts.tensors.reduce((sum, tensor) => sum + padded(parts, tensor), 0));
const both = (...changes: Change[]): Change => parts => {
  const edits = changes.map(change => change(parts));
  return file => edits.reduce((edited, edit) => edit ? edit(edited) : edited, file);
};
const every = (change: (tensor: Tensor, i: number) => Partial<Tensor>): Change => parts => { parts.tensors = parts.tensors.map((tensor, i) => ({ ...tensor, ...change(tensor, i) })); };
const alignment = (value: Raw, used = 32): Change => parts => {
  parts.entries.push(['general.alignment', value]);
  parts.alignment = used;
};
/** A tensor of so many bytes of type I8, which the file does not have. */
const huge = (name: string, dim: bigint, offset: bigint): Tensor => ({ name, dims: [dim], type: 24, bytes: new Uint8Array(32), offset });

const BAD = 'BAD_MODEL_FILE', UNSUPPORTED = 'UNSUPPORTED_FORMAT';
/** Kind, what it has, how it is made; code (null: sound) and field. */
const kinds: [name: string, what: Parameters<typeof sound>[0], change: Change, code: string | null, field?: string | RegExp][] = [
  ['header: bad magic', 'header', parts => { parts.magic = 'FUGG'; }, BAD, 'magic'],
  ['header: version 0', 'header', parts => { parts.version = 0; }, UNSUPPORTED, 'version'],
  ['header: version 1', 'header', parts => { parts.version = 1; }, UNSUPPORTED, 'version'],
  ['header: a version of the future', 'header', parts => { parts.version = 4; }, UNSUPPORTED, 'version'],
  ['header: 2^64 - 1 entries', 'header', parts => { parts.nEntries = MAX; }, BAD, 'metadata_kv_count'],
  ['header: 2^64 - 1 tensors', 'header', parts => { parts.nTensors = MAX; }, BAD, 'tensor_count'],
  ['header: empty', 'header', () => {}, null],
  ['entries: a key of 2^64 - 1 bytes', 'entries', () => file => { file.set(u64(MAX), FIRST_KEY); return file; }, BAD, 'key 0'],
  ['entries: empty keys', 'entries', parts => { parts.entries = parts.entries.map(([, value]) => ['', value]); }, BAD, 'key 0'],
  ['entries: a type that does not exist', 'entries', parts => { parts.entries = parts.entries.map(([key]) => [key, [13, Uint8Array.of(1)]]); }, BAD, 'my_key_0'],
  ['entries: keys twice', 'entries', parts => { parts.entries = parts.entries.map(([, value], i) => [`my_key_${i >> 1}`, value]); }, BAD, 'my_key_0'],
  ['entries: alignment 13', 'entries', alignment(num(13)), BAD, 'general.alignment'],
  ['entries: an alignment of another type', 'entries', alignment([5, u32(13)]), BAD, 'general.alignment'],
  ['entries: sound', 'entries', () => {}, null],
  ['tensors: a name of more than 63 bytes', 'tensors', every((_, i) => ({ name: `my_tensor_${i}_${'x'.repeat(64)}` })), BAD, 'tensor 0'],
  ['tensors: five dimensions', 'tensors', every(() => ({ nDims: 5 })), BAD, 'my_tensor_0.n_dims'],
  ['tensors: negative dimensions', 'tensors', every(({ dims }) => ({ dims: dims.map(() => MAX) })), BAD, 'my_tensor_0.dims'],
  ['tensors: a dimension of 0', 'tensors', every(({ dims }) => ({ dims: [dims[0]!, 0] })), BAD, 'my_tensor_0.dims'],
  ['tensors: more than 2^63 elements', 'tensors', every(() => ({ dims: [4n * (2n ** 31n - 1n), 4n * (2n ** 31n - 1n)] })), BAD, 'my_tensor_0.dims'],
  ['tensors: more than 2^64 bytes', 'tensors', every(() => ({ type: 27, dims: [2n ** 30n + 2n ** 29n, 2n ** 31n] })), BAD, 'my_tensor_0.dims'],
  ['tensors: a type that does not exist', 'tensors', every(() => ({ type: 42 })), UNSUPPORTED, 'my_tensor_0.type'],
  ['tensors: offset 2^64 - 1', 'tensors', every(() => ({ offset: MAX })), BAD, 'my_tensor_0.offset'],
  ['tensors: one name for all', 'tensors', every(() => ({ name: 'my_tensor' })), BAD, 'my_tensor'],
  ['tensors: alignment 13', 'tensors', alignment(num(13)), BAD, 'general.alignment'],
  ['tensors: offsets of another alignment', 'tensors', parts => { parts.alignment = 1; }, BAD, /^my_tensor_\d+\.offset$/],
  // Read without their data there; a model has data.
  ['tensors: sound', 'tensors', noData, BAD, 'my_tensor_0'],
  ['tensors: alignment 1', 'tensors', both(alignment(num(1), 1), noData), BAD, 'my_tensor_0'],
  ['data: a byte missing', 'data', both(alignment(num(1), 1), () => file => file.subarray(0, -1)), BAD, 'my_tensor_99'],
  ['data: alignment 13', 'data', alignment(num(13)), BAD, 'general.alignment'],
  ['data: offsets of another alignment', 'data', parts => { parts.alignment = 1; }, BAD, /^my_tensor_\d+\.offset$/],
  ['data: sizes whose sum wraps', 'data', parts => { parts.tensors = [huge('my_tensor_0', 0x7fffffffffffffc0n, 0n), huge('my_tensor_1', 0x7fffffffffffffc0n, 0x7fffffffffffffc0n)]; }, BAD, 'my_tensor_0.dims'],
  ['data: sound', 'data', () => {}, null],
  ['data: alignment 1', 'data', alignment(num(1), 1), null],
];

function bytesOf([, what, change]: typeof kinds[number], seed: number): Uint8Array {
  const parts = sound(what, seed), edit = change(parts), file = ggufFile(parts);
  return edit ? edit(file) : file;
}

const read = async (folder: string) => {
  const file = await openFile(join(folder, 'model.gguf'));
  try {
    return await readGguf(file);
  } finally {
    await file.close();
  }
};
const SEEDS = 3;
const attacks = kinds.flatMap((kind): Attack[] => Array.from({ length: SEEDS }, (_, seed) => {
  const [name, , , code, field] = kind;
  return { name: `${name} (seed ${seed})`, make: folder => writeFileSync(join(folder, 'model.gguf'), bytesOf(kind, seed)), read, code, ...(field !== undefined && { field }) };
}));

await measure(`${kinds.length} kinds of GGUF files`, import.meta.url, attacks);
