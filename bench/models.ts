/** What is run: random weights of a real shape, or a file. */
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { readGguf } from '../src/formats/gguf.js';
import type { ByteSource, PackedHeader } from '../src/formats/types.js';
import { openFile } from '../src/platform/platform.js';
import { openPacked } from '../src/runtime/source.js';
import { streamedGguf, writeGguf } from './gguf.js';
import { streamed, synthetic, type Shape } from './shapes.js';

export interface BenchModel {
  name: string;
  /** How Lutra holds the weights. */
  format: string;
  /** Weights that a decode step reads. */
  weights: number;
  source: ByteSource;
  header: PackedHeader;
  /** The peers' file: the same, or its counterpart of the same shape and about as many bits. */
  gguf?: () => Promise<GgufFile>;
  close(): Promise<void>;
}

/** `paths`: its parts, if it is split. `bytes`: of the matrices that a decode step reads. */
interface GgufFile { paths: string[]; format: string; bytes: number }

const counterparts: Record<string, string> = { 2: 'Q2_K', 3: 'Q3_K', 4: 'Q4_0', 8: 'Q8_0', ternary: 'TQ2_0' };

export function syntheticModel(name: string, shape: Shape, bits: string, groupSize: number, headBits: string, keep: boolean): BenchModel {
  const { header, source } = synthetic(shape, bits, groupSize, headBits), type = counterparts[bits];
  const folder = join(tmpdir(), 'lutra-bench');
  let paths: string[] = [];
  const remove = () => { if (!keep) for (const path of paths) rmSync(path, { force: true }); };
  process.once('exit', remove);
  return {
    name: `${name} shape`, format: `${bits === 'ternary' ? 'ternary' : bits === '8' ? '8 bits' : `${bits} bits g${groupSize}`}${headBits === '4' ? ', head 4' : ''}`, weights: streamed(header).weights, source, header,
    ...(type && { gguf: async () => {
      mkdirSync(folder, { recursive: true });
      paths = await writeGguf(join(folder, `${name}-${type}.gguf`), shape, type);
      return { paths, format: type, bytes: streamedGguf(shape, type) };
    } }),
    close: async () => remove(),
  };
}

export async function fileModel(path: string): Promise<BenchModel> {
  const { source, header } = await openPacked(path, {});
  const isGguf = path.endsWith('.gguf');
  return {
    name: basename(path), format: isGguf ? 'as it is' : 'packed', weights: streamed(header).weights, source, header,
    ...(isGguf && { gguf: () => ggufFile(path) }),
    close: () => source.close(),
  };
}

async function ggufFile(path: string): Promise<GgufFile> {
  const file = await openFile(path);
  try {
    const { tensors } = await readGguf(file), tied = !tensors.has('output.weight'), byType = new Map<string, number>();
    for (const [name, { type, dims }] of tensors) {
      if (dims.length < 2 || (name === 'token_embd.weight' && !tied)) continue;
      byType.set(type.name, (byType.get(type.name) ?? 0) + dims.reduce((a, b) => a * b) / type.elements * type.bytes);
    }
    const [[most]] = [...byType].sort((a, b) => b[1] - a[1]) as [[string, number]];
    return { paths: [path], format: most, bytes: [...byType.values()].reduce((a, b) => a + b) };
  } finally {
    await file.close();
  }
}
