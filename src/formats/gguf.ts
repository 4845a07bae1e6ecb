/**
 * The GGUF container, versions 2 and 3: metadata, then descriptions of tensors, then their data. Only the header is
 * read; every count, length and offset in it is checked against the bytes that back it.
 */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { largeBytes } from '../platform/platform.js';
import { ByteReader, checkRange, shown } from './bytes.js';
import type { ByteSource } from './types.js';

/** "GGUF" */
export const GGUF_MAGIC = 0x46554747;

/** Header bytes read at first: enough for most vocabularies. When it is not, all that a header may have. */
const FIRST_READ = 4 << 20;
/** The largest vocabularies with their merges take 30 MiB. */
const HEADER_LIMIT = 32 << 20;
/** No sound file comes near these numbers. */
const MAX_ENTRIES = 4096, MAX_TENSORS = 65536;
const MAX_ALIGNMENT = 65536;
const MAX_NAME = 63;
const MAX_KEY = 1024;
const MAX_DIM = 2 ** 31;
/** Of a list that somebody asks for; the largest vocabularies have half a million merges. */
const MAX_STRINGS = 2 ** 20;
/** Bytes of a text that somebody asks for. */
const MAX_TEXT = 2 ** 20;

export interface GgufType {
  name: string;
  /** Weights in a block, and the block's bytes. */
  elements: number;
  bytes: number;
  /** Bytes behind the last block (I2_S: its scale, and room). */
  tail?: number;
}

export interface GgufTensor {
  type: GgufType;
  /** The fastest first: [columns, rows]. */
  dims: number[];
  file: ByteSource;
  /** File offset. */
  begin: number;
}

export interface Gguf {
  metadata: Metadata;
  tensors: Map<string, GgufTensor>;
}

const types = new Map<number, GgufType>(([
  [0, 'F32', 1, 4], [1, 'F16', 1, 2], [2, 'Q4_0', 32, 18], [3, 'Q4_1', 32, 20], [6, 'Q5_0', 32, 22], [7, 'Q5_1', 32, 24], [8, 'Q8_0', 32, 34],
  [10, 'Q2_K', 256, 84], [11, 'Q3_K', 256, 110], [12, 'Q4_K', 256, 144], [13, 'Q5_K', 256, 176], [14, 'Q6_K', 256, 210],
  [16, 'IQ2_XXS', 256, 66], [17, 'IQ2_XS', 256, 74], [18, 'IQ3_XXS', 256, 98], [19, 'IQ1_S', 256, 50], [20, 'IQ4_NL', 32, 18],
  [21, 'IQ3_S', 256, 110], [22, 'IQ2_S', 256, 82], [23, 'IQ4_XS', 256, 136], [29, 'IQ1_M', 256, 56],
  [24, 'I8', 1, 1], [25, 'I16', 1, 2], [26, 'I32', 1, 4], [27, 'I64', 1, 8], [28, 'F64', 1, 8],
  [30, 'BF16', 1, 2], [34, 'TQ1_0', 256, 54], [35, 'TQ2_0', 256, 66], [36, 'I2_S', 128, 32, 32],
] as const).map(([id, name, elements, bytes, tail = 0]) => [id, { name, elements, bytes, tail }]));
/** Ids that no two programs agree on, or that have been withdrawn; what each may be. */
const ambiguous: Record<number, string> = {
  31: 'Q4_0_4_4', 32: 'Q4_0_4_8', 33: 'Q4_0_8_8', 37: 'IQ4_NL_4_8 or bitnet.cpp\'s I8_S', 38: 'IQ4_NL_8_8 or bitnet.cpp\'s TL1',
  39: 'MXFP4 or bitnet.cpp\'s TL2', 40: 'NVFP4', 41: 'Q1_0',
};

const STRING = 8, ARRAY = 9;

/** Values of fixed size, by type id. */
const scalars: Record<number, { bytes: number; read(view: DataView, at: number): number | boolean }> = {
  0: { bytes: 1, read: (view, at) => view.getUint8(at) },
  1: { bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
  3: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  4: { bytes: 4, read: (view, at) => view.getUint32(at, true) },
  5: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  6: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 },
  10: { bytes: 8, read: (view, at) => Number(view.getBigUint64(at, true)) },
  11: { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  12: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};

/** Lists and texts stay as their bytes until somebody asks for them. */
interface List { type: number; count: number; bytes: Uint8Array }
type Value = number | boolean | Uint8Array | List;

/** The key-value part of a file. A value of another type than the one asked for is an error. */
export class Metadata {
  constructor(private readonly values: ReadonlyMap<string, Value>, readonly path: string) {}

  number(key: string): number | undefined { return this.get(key, 'number'); }
  boolean(key: string): boolean | undefined { return this.get(key, 'boolean'); }

  string(key: string): string | undefined {
    const bytes = this.values.get(key);
    if (bytes === undefined) return undefined;
    if (!(bytes instanceof Uint8Array)) throw new BadModelFileError(this.path, key, 'is no string');
    if (bytes.length > MAX_TEXT) throw new BadModelFileError(this.path, key, `a text of ${bytes.length} bytes, at most ${MAX_TEXT} make sense`);
    return decode(bytes, key, this.path);
  }

  /** Entries of a list. */
  count(key: string): number | undefined { return this.list(key)?.count; }

  numbers(key: string): number[] | undefined {
    const list = this.list(key);
    if (!list) return undefined;
    const { type, count, bytes } = list, scalar = scalars[type];
    if (!scalar || type === 7) throw new BadModelFileError(this.path, key, 'is no list of numbers');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Array.from({ length: count }, (_, i) => scalar.read(view, scalar.bytes * i) as number);
  }

  strings(key: string): string[] | undefined {
    const list = this.list(key);
    if (!list) return undefined;
    if (list.type !== STRING) throw new BadModelFileError(this.path, key, 'is no list of strings');
    if (list.count > MAX_STRINGS) throw new BadModelFileError(this.path, key, `${list.count} strings, at most ${MAX_STRINGS} make sense`);
    const reader = new ByteReader(list.bytes, this.path);
    return Array.from({ length: list.count }, () => readString(reader, key));
  }

  private list(key: string): List | undefined {
    const value = this.values.get(key);
    if (value !== undefined && (typeof value !== 'object' || value instanceof Uint8Array)) throw new BadModelFileError(this.path, key, 'is no list');
    return value;
  }

  private get(key: string, type: 'number'): number | undefined;
  private get(key: string, type: 'boolean'): boolean | undefined;
  private get(key: string, type: string): Value | undefined {
    const value = this.values.get(key);
    if (value !== undefined && typeof value !== type) throw new BadModelFileError(this.path, key, `is no ${type}`);
    return value;
  }
}

export async function readGguf(file: ByteSource): Promise<Gguf> {
  // What is not read into takes addresses only.
  const most = Math.min(file.size, HEADER_LIMIT), room = largeBytes(most);
  for (let from = 0, to = Math.min(FIRST_READ, most); ; from = to, to = most) {
    await file.read(room.subarray(from, to), from);
    const reader = new ByteReader(room.subarray(0, to), file.name);
    try {
      return parse(reader, file);
    } catch (error) {
      // The header may go on behind the bytes read so far.
      if (!reader.exhausted || to === most) throw error;
    }
  }
}

function parse(reader: ByteReader, file: ByteSource): Gguf {
  const fail = (field: string, problem: string): never => { throw new BadModelFileError(file.name, field, problem); };
  if (reader.u32('magic') !== GGUF_MAGIC) fail('magic', 'is not "GGUF"');
  const version = reader.u32('version');
  if (version !== 2 && version !== 3) {
    throw new UnsupportedFormatError(file.name, 'version', `GGUF version ${version}${version > 0xffff ? ' (or big-endian)' : ''}`, 'Versions 2 and 3, little-endian, are read: convert the model with current tools.');
  }
  const nTensors = reader.u64('tensor_count'), nEntries = reader.u64('metadata_kv_count');
  if (nTensors > MAX_TENSORS) fail('tensor_count', `${nTensors} tensors, at most ${MAX_TENSORS} make sense`);
  if (nEntries > MAX_ENTRIES) fail('metadata_kv_count', `${nEntries} entries, at most ${MAX_ENTRIES} make sense`);

  const values = new Map<string, Value>();
  for (let i = 0; i < nEntries; i++) {
    const key = readString(reader, `key ${i}`, MAX_KEY);
    if (key === '') fail(`key ${i}`, 'is empty');
    if (values.has(key)) fail(key, 'is there twice');
    values.set(key, readValue(reader, key, fail));
  }
  const metadata = new Metadata(values, file.name);
  const alignment = metadata.number('general.alignment') ?? 32;
  if (!Number.isInteger(alignment) || alignment < 1 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) !== 0) {
    fail('general.alignment', `${alignment} is not a power of two up to ${MAX_ALIGNMENT}`);
  }

  const found: { name: string; type: GgufType; dims: number[]; offset: number; bytes: number }[] = [];
  for (let i = 0; i < nTensors; i++) found.push(readTensor(reader, i, fail, file.name));
  const data = Math.ceil(reader.at / alignment) * alignment;
  const tensors = new Map<string, GgufTensor>();
  const hasI2S = found.some(({ type }) => type.name === 'I2_S');
  let expected = 0;
  for (const { name, type, dims, offset, bytes } of found) {
    if (tensors.has(name)) fail(name, 'is there twice');
    // Tensors follow one another: they cannot overlap, and nothing hides between them.
    if (offset !== expected && hasI2S) checkI2S(metadata, file, false);
    if (offset !== expected) fail(`${name}.offset`, `${offset}, but the tensors before it end at ${expected}`);
    checkRange(file, data + offset, bytes, name);
    tensors.set(name, { type, dims, file, begin: data + offset });
    expected = Math.ceil((offset + bytes) / alignment) * alignment;
  }
  if (hasI2S) checkI2S(metadata, file, file.size - data <= expected);
  return { metadata, tensors };
}

/**
 * Type 36 was IQ4_NL_4_4 once. It is I2_S where the architecture is one that bitnet.cpp writes and where, with I2_S's sizes,
 * each tensor begins where the one before it ends and the last ends with the file (`fits`). Which of I2_S's layouts it is
 * nothing in a file says: the one with 32 bytes for 128 weights is taken, which converters and the published models use.
 */
function checkI2S(metadata: Metadata, file: ByteSource, fits: boolean): void {
  const architecture = metadata.string('general.architecture');
  const refuse = (problem: string) => { throw new UnsupportedFormatError(file.name, 'type 36', problem, 'It is read as bitnet.cpp\'s I2_S, in files that its converter wrote.'); };
  if (architecture !== undefined && !/^(bitnet|llama$)/.test(architecture)) refuse(`bitnet.cpp's I2_S in a model of architecture ${shown(architecture)}`);
  if (!fits) refuse('the tensors do not lie as they would if this were I2_S');
}

function readValue(reader: ByteReader, key: string, fail: (field: string, problem: string) => never): Value {
  const type = reader.u32(key);
  if (type === STRING) return reader.take(reader.u64(key), key);
  if (type !== ARRAY) {
    const scalar = scalars[type] ?? fail(key, `has type ${type}, which does not exist`);
    return scalar.read(reader.span(scalar.bytes, key), 0);
  }
  const element = reader.u32(key), count = reader.u64(key);
  if (element === ARRAY) fail(key, 'is a list of lists, which no model has');
  const begin = reader.at;
  if (element === STRING) {
    // Each string has its length in front: the list cannot have more than the bytes that are left allow.
    if (8 * count > reader.left) reader.take(8 * count, key);
    for (let i = 0; i < count; i++) reader.take(reader.u64(key), key);
  } else {
    const { bytes } = scalars[element] ?? fail(key, `is a list of type ${element}, which does not exist`);
    reader.take(bytes * count, key);
  }
  return { type: element, count, bytes: reader.since(begin) };
}

function readTensor(reader: ByteReader, index: number, fail: (field: string, problem: string) => never, path: string) {
  const name = readString(reader, `tensor ${index}`, MAX_NAME);
  if (name === '') fail(`tensor ${index}`, 'has no name');
  const nDims = reader.u32(`${name}.n_dims`);
  if (nDims < 1 || nDims > 4) fail(`${name}.n_dims`, `${nDims} is not 1 to 4`);
  const dims = Array.from({ length: nDims }, () => reader.u64(`${name}.dims`));
  if (dims.some(dim => dim < 1 || dim > MAX_DIM)) fail(`${name}.dims`, `[${dims}] is no shape`);
  const id = reader.u32(`${name}.type`), type = types.get(id);
  if (!type) throw new UnsupportedFormatError(path, `${name}.type`, `type ${id} ${id in ambiguous ? `(${ambiguous[id]}) is not read` : 'is not known'}`, 'Use the model in another type: Q4_0, Q4_1, Q8_0, F16 and the K types are read.');
  if (dims[0]! % type.elements !== 0) fail(`${name}.dims`, `rows of ${dims[0]} weights do not fill blocks of ${type.elements}`);
  const bytes = dims.reduce((product, dim) => product * dim, type.bytes / type.elements) + (type.tail ?? 0);
  if (!Number.isSafeInteger(bytes)) fail(`${name}.dims`, `[${dims}] is too large`);
  return { name, type, dims, offset: reader.u64(`${name}.offset`), bytes };
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function readString(reader: ByteReader, field: string, longest = MAX_TEXT): string {
  const length = reader.u64(field);
  if (length > longest) throw new BadModelFileError(reader.path, field, `a string of ${length} bytes, at most ${longest} make sense`);
  return decode(reader.take(length, field), field, reader.path);
}

function decode(bytes: Uint8Array, field: string, path: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new BadModelFileError(path, field, 'is not UTF-8');
  }
}
