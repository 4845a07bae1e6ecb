/**
 * Matrices of GPTQ checkpoints (AutoGPTQ, GPTQModel). For a layer of K columns, M rows, b bits and G groups of columns:
 *
 *   qweight int32[K b / 32][M]   codes: bits of a row down the column, lowest first, codes may cross words
 *   qzeros  int32[G][M b / 32]   zero points, in the same way along the row; version 1 stores one less
 *   scales  f16[G][M]
 *   g_idx   int32[K]             the group of each column; without it, or without act-order, k / group size
 *
 *   w = scale (q - zero) = s q + z, z = -scale zero: exact in f32
 *
 * They lie across the rows that the packers want, so whole tensors are read and rows are picked from them.
 */
import { BadModelFileError } from '../errors.js';
import { checkRange, readBytes } from './bytes.js';
import type { Quantisation } from './hf-config.js';
import type { Encoding, SourceMatrix } from './source.js';
import type { ByteSource } from './types.js';

type Gptq = Extract<Quantisation, { method: 'gptq' }>;

/** A tensor of a checkpoint; its bytes are those of its dtype and shape. */
export interface Place { file: ByteSource; begin: number }

export interface GptqTensors {
  qweight: Place;
  qzeros: Place;
  scales: Place;
  groupOf: Place | null;
}

/** Matrices whose tensors are in memory at a time: packers may be at the end of one and at the beginning of the next. */
const KEPT = 2;

const columns = (cols: number, { groupSize }: Gptq) => groupSize === -1 ? cols : groupSize;
export const groupCount = (cols: number, gptq: Gptq): number => Math.ceil(cols / columns(cols, gptq));

/** Reads zero points and groups, which decide how a matrix can be kept; weights and scales are read when they are asked for. */
export async function gptqMatrix(name: string, rows: number, cols: number, gptq: Gptq, tensors: GptqTensors, loaded: GptqCache): Promise<SourceMatrix> {
  const { bits } = gptq, width = columns(cols, gptq), groups = groupCount(cols, gptq);
  const zeros = await readZeros(name, rows, groups, gptq, tensors.qzeros);
  const groupOf = tensors.groupOf && await readGroups(name, cols, groups, tensors.groupOf);
  const inOrder = !groupOf || groupOf.every((group, k) => group === Math.floor(k / width));
  // Columns for which a format of ours has parameters; act-order and odd sizes become plain numbers.
  const unit = inOrder ? [128, 64, 32].find(size => width % size === 0 && cols % size === 0) : undefined;
  const symmetric = zeros.every(zero => zero === 1 << (bits - 1));
  const encoding: Encoding | undefined = unit === undefined ? undefined
    : bits === 8 ? symmetric ? 'gptq8_sym' : undefined : bits === 4 && symmetric ? 'gptq4_sym' : `gptq${bits}`;
  const rowBytes = encoding ? cols * bits / 8 + 8 * cols / unit! : 4 * cols;
  const file = new Rows(tensors.qweight.file.name, rows, rowBytes, async (first, count, target) => {
    const { words, scales } = await loaded.get(name, async () => ({
      words: new Uint32Array((await readBytes(tensors.qweight.file, tensors.qweight.begin, cols * bits / 8 * rows, name)).buffer),
      scales: new Uint16Array((await readBytes(tensors.scales.file, tensors.scales.begin, 2 * groups * rows, name)).buffer),
    }));
    const scaleOf = (row: number, group: number) => halfToNumber(scales[group * rows + row]!);
    const codeWords = cols * bits / 32;
    const row = new Uint32Array(codeWords);
    for (let r = 0; r < count; r++) {
      const m = first + r, out = new DataView(target.buffer, target.byteOffset + r * rowBytes, rowBytes);
      for (let i = 0; i < codeWords; i++) row[i] = words[i * rows + m]!;
      if (encoding) {
        row.forEach((word, i) => out.setUint32(4 * i, word, true));
        for (let u = 0; u < cols / unit!; u++) {
          const group = Math.floor(u * unit! / width), scale = scaleOf(m, group), at = 4 * codeWords + 8 * u;
          out.setFloat32(at, scale, true);
          out.setFloat32(at + 4, -scale * zeros[group * rows + m]!, true);
        }
      } else {
        for (let k = 0; k < cols; k++) {
          const group = groupOf ? groupOf[k]! : Math.floor(k / width);
          out.setFloat32(4 * k, scaleOf(m, group) * (field(row, k * bits, bits) - zeros[group * rows + m]!), true);
        }
      }
    }
  });
  return {
    name, rows, cols, encoding: encoding ?? 'f32', codes: { file, length: rowBytes, offset: r => r * rowBytes }, ...(encoding && { param: unit! }),
    stored: {
      type: `gptq ${bits} bits, g${width}${inOrder ? '' : ', act-order'}`,
      bytes: cols * bits / 8 * rows + groups * (rows * bits / 8 + 2 * rows) + (tensors.groupOf ? 4 * cols : 0),
    },
  };
}

/** [groups][rows] */
async function readZeros(name: string, rows: number, groups: number, { bits, zeroOffset }: Gptq, { file, begin }: Place): Promise<Int32Array> {
  const words = new Uint32Array((await readBytes(file, begin, rows * bits / 8 * groups, `${name}.qzeros`)).buffer), wordsPerGroup = rows * bits / 32;
  const zeros = new Int32Array(groups * rows);
  for (let g = 0; g < groups; g++) {
    const group = words.subarray(g * wordsPerGroup, (g + 1) * wordsPerGroup);
    for (let m = 0; m < rows; m++) zeros[g * rows + m] = field(group, m * bits, bits) + zeroOffset;
  }
  return zeros;
}

async function readGroups(name: string, cols: number, groups: number, { file, begin }: Place): Promise<Int32Array> {
  const groupOf = new Int32Array((await readBytes(file, begin, 4 * cols, `${name}.g_idx`)).buffer);
  const wrong = groupOf.find(group => group < 0 || group >= groups);
  if (wrong !== undefined) throw new BadModelFileError(file.name, `${name}.g_idx`, `group ${wrong}, there are ${groups}`);
  return groupOf;
}

/** Bits [at, at + bits) of a run of words. */
function field(words: Uint32Array, at: number, bits: number): number {
  const i = at >>> 5, shift = at & 31, low = words[i]! >>> shift;
  return (shift + bits > 32 ? low | words[i + 1]! << (32 - shift) : low) & ((1 << bits) - 1);
}

export function halfToNumber(half: number): number {
  const exponent = (half >> 10) & 31, fraction = half & 1023;
  const magnitude = exponent === 31 ? (fraction ? NaN : Infinity) : exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

interface Loaded { words: Uint32Array; scales: Uint16Array }

/** Tensors of the matrices read last. */
export class GptqCache {
  private readonly kept = new Map<string, Promise<Loaded>>();

  get(name: string, load: () => Promise<Loaded>): Promise<Loaded> {
    const found = this.kept.get(name) ?? load();
    this.kept.delete(name);
    this.kept.set(name, found);
    found.catch(() => this.kept.delete(name));
    for (const oldest of this.kept.keys()) if (this.kept.size > KEPT) this.kept.delete(oldest);
    return found;
  }
}

/** Rows of equal length that are made when they are read. */
class Rows implements ByteSource {
  readonly size: number;
  constructor(readonly name: string, rows: number, private readonly rowBytes: number, private readonly make: (first: number, count: number, target: Uint8Array) => Promise<void>) {
    this.size = rows * rowBytes;
  }
  /** Whole rows only. */
  async read(target: Uint8Array, offset: number): Promise<void> {
    checkRange(this, offset, target.length, 'rows');
    await this.make(offset / this.rowBytes, target.length / this.rowBytes, target);
  }
  async close(): Promise<void> {}
}
