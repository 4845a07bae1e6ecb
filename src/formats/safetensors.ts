/** The safetensors container: u64 N, N bytes of JSON, data. https://github.com/huggingface/safetensors */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { isObject, parseJson, readBytes, shown } from './bytes.js';
import type { ByteSource, TensorInfo } from './types.js';

/** The container allows more; the models with the most tensors in one file need a tenth. */
const HEADER_LIMIT = 16 << 20;
/** Three a tensor: 87,000 tensors in one file. */
const MAX_BRACKETS = 2 ** 18;
const dtypeBytes: Record<string, number> = {
  F64: 8, I64: 8, U64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2, I16: 2, U16: 2, I8: 1, U8: 1, BOOL: 1, F8_E4M3: 1, F8_E5M2: 1,
};

export interface SafetensorsHeader {
  metadata: Record<string, string>;
  tensors: Map<string, TensorInfo>;
  /** File offset of the data section. */
  dataOffset: number;
}

/** Reads and checks a header: after this every tensor lies inside the file and has the size its type and shape say. */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const fail = (field: string, problem: string): never => { throw new BadModelFileError(source.name, field, problem); };
  const prefix = await readBytes(source, 0, 8, 'header length');
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > HEADER_LIMIT || length > source.size - 8) {
    fail('header length', `${length} bytes do not fit (file: ${source.size} bytes, limit: ${HEADER_LIMIT})`);
  }
  const { __metadata__: metadata = {}, ...entries } = parseJson(await readBytes(source, 8, length, 'header'), source.name, 'header', MAX_BRACKETS);
  if (!isObject(metadata) || Object.values(metadata).some(value => typeof value !== 'string')) fail('__metadata__', 'is not a map of strings');

  const dataOffset = 8 + length;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of Object.entries(entries)) tensors.set(name, tensorInfo(source.name, name, entry));
  let end = 0;
  for (const [name, tensor] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (tensor.begin !== end) fail(name, `begins at ${tensor.begin}, the tensor before it ends at ${end}`);
    end = tensor.end;
  }
  if (end !== source.size - dataOffset) fail('size', `${source.size - dataOffset} bytes of data, the header describes ${end}`);
  return { metadata, tensors, dataOffset };
}

function tensorInfo(path: string, name: string, entry: unknown): TensorInfo {
  const fail = (problem: string): never => { throw new BadModelFileError(path, name, problem); };
  if (!isObject(entry)) return fail('is not described by an object');
  const { dtype, shape, data_offsets: offsets } = entry;
  const isSize = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every(isSize)) return fail('has no proper shape');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) return fail('has no proper data_offsets');
  if (typeof dtype !== 'string' || !Object.hasOwn(dtypeBytes, dtype)) {
    throw new UnsupportedFormatError(path, name, `unknown dtype ${shown(dtype)}`, `Known are ${Object.keys(dtypeBytes).join(', ')}.`);
  }
  const [begin, end] = offsets as [number, number];
  // Products are exact or too large to match: above 2^53 they cannot equal a safe integer's span by accident of rounding.
  const bytes = (shape as number[]).reduce((product, size) => product * size, dtypeBytes[dtype]!);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) return fail(`${dtype} [${shape}] takes ${bytes} bytes, data_offsets span ${end - begin}`);
  return { dtype, shape: shape as number[], begin, end };
}

/** In stretches: V8 sets six times a text's length aside. */
const quoted = (text: string) => `"${(text.match(/[^]{1,4096}/gu) ?? []).map(stretch => JSON.stringify(stretch).slice(1, -1)).join('')}"`;

/** Header bytes, the length in front included, padded with spaces to a multiple of `align`. */
export function serialiseSafetensorsHeader(metadata: Record<string, string>, tensors: Iterable<[string, TensorInfo]>, align: number): Uint8Array<ArrayBuffer> {
  const entries = [...tensors].map(([name, { dtype, shape, begin, end }]) => `${quoted(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
  const texts = Object.entries(metadata).map(([name, text]) => `${quoted(name)}:${quoted(text)}`);
  const json = new TextEncoder().encode(`{${[`"__metadata__":{${texts.join()}}`, ...entries].join()}}`);
  const header = new Uint8Array(Math.ceil((8 + json.length) / align) * align).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(json, 8);
  return header;
}
