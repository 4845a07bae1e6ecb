/** Every matrix kernel on layers of real shape, one thread, weights from memory: none of them is in the cache when its turn comes. */
import { Bench } from 'tinybench';
import type { PartFormat } from '../src/formats/packed.js';
import { Bare, noise } from '../tests/cpp/harness.js';
import type { Roof } from './roof.js';
import { median } from './stats.js';

/** One format for each kernel of cpp/kernels/table.cc, in the group size that files have. */
const formats: PartFormat[] = [
  ...[1, 2, 3, 4].flatMap(planes => (['i16', 'f16', 'f32'] as const).map((coding): PartFormat => ({ layout: 'planes', planes, groupSize: coding === 'i16' ? 128 : 64, coding }))),
  ...[1, 2, 3, 4].map((planes): PartFormat => ({ layout: 'uniform', planes, groupSize: 64, coding: 'i6' })),
  ...[2, 3, 4].map((planes): PartFormat => ({ layout: 'uniform', planes, groupSize: 64, coding: 'f32' })),
  ...[4, 5].flatMap(planes => (['f16', 'f16mid', 'k6'] as const).map((coding): PartFormat => ({ layout: 'uniform', planes, groupSize: 32, coding }))),
  { layout: 'uniform', planes: 2, groupSize: 16, coding: 'k4' },
  ...[3, 6].map((planes): PartFormat => ({ layout: 'uniform', planes, groupSize: 16, coding: 'k8' })),
  ...(['none', 'f16', 'f32'] as const).map((coding): PartFormat => ({ layout: 'ternary', planes: 2, groupSize: 128, coding })),
  { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, { layout: 'int8', planes: 0, groupSize: 32, coding: 'f16' },
  { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' },
];

/** [rows, columns] of the 1.1B shape's layers, and the square that others publish. */
const shapes: [number, number][] = [[2048, 2048], [5632, 2048], [2048, 5632], [4096, 4096]];

/** Bytes of one layer's copies, several times the caches of a core. */
const ROTATION = 96 << 20;
const MANY = 32;

export interface KernelRow {
  kernel: string;
  groupSize: number;
  rows: number;
  cols: number;
  /** One vector: 2·rows·cols operations a second, bytes of weights a second, share of WebAssembly's read rate measured just before. */
  gops: number;
  gbps: number;
  share: number | null;
  /** The same for 32 vectors at once. */
  gopsMany: number | null;
}

/** Seconds of a call: median of a tinybench run of about `ms`. */
export async function time(name: string, ms: number, call: () => void | Promise<void>): Promise<number> {
  const bench = new Bench({ time: ms, iterations: 3, warmupTime: ms / 5, warmupIterations: 2 });
  bench.add(name, call);
  await bench.run();
  const { result } = bench.tasks[0]!;
  if (result.state !== 'completed') throw 'error' in result ? result.error : new Error(`${name}: ${result.state}`);
  return result.latency.p50 / 1000;
}

/** @param only words, one of which a kernel's name must contain */
export async function benchKernels(variant: 'simd' | 'relaxed', only: string[], roof: Roof, onRow: (row: KernelRow) => void): Promise<KernelRow[]> {
  const table: KernelRow[] = [], bare = new Bare(variant);
  for (const format of formats) {
    if (!wanted(bare, format, only)) continue;
    const rate = median([await roof.measure(1), await roof.measure(1)].map(({ streams, sequential }) => Math.max(streams, sequential)));
    for (const [rows, cols] of shapes) {
      bare.clear();
      const spec = { ...format, rows, cols, segmented: false };
      const first = bare.randomLinear(spec, 1), bytes = bare.bytesOf(first);
      const layers = [first];
      while (layers.length * bytes < ROTATION) layers.push(bare.copyLinear(first));
      const random = noise(2);
      const vectors = (m: number) => {
        const x = Float32Array.from({ length: m * cols }, random);
        const { run } = bare.prepare(first, spec, x, m);
        let turn = 0;
        return () => run(false, layers[turn++ % layers.length]!);
      };
      const one = await time(bare.nameOf(first), 250, vectors(1)), many = await time(bare.nameOf(first), 250, vectors(MANY));
      const row: KernelRow = {
        kernel: bare.nameOf(first), groupSize: format.groupSize, rows, cols, gops: 2 * rows * cols / one / 1e9, gbps: bytes / one / 1e9,
        share: bytes / one / 1e9 / rate, gopsMany: 2 * rows * cols * MANY / many / 1e9,
      };
      table.push(row);
      onRow(row);
    }
  }
  return table;
}

function wanted(bare: Bare, format: PartFormat, only: string[]): boolean {
  bare.clear();
  const name = bare.nameOf(bare.randomLinear({ ...format, rows: 16, cols: 256, segmented: false }, 1));
  return only.length === 0 || only.some(word => name.includes(word));
}
