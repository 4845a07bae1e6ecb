/** How fast models are loaded, each time in a fresh process and from a warm page cache, beside a plain read of the same file. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { aligned } from '../src/cli/table.js';
import { writePacked } from '../tests/engine/files.js';
import { repoRoot } from '../tests/helpers/paths.js';
import { writeGguf } from './gguf.js';
import { synthetic, type Shape } from './shapes.js';
import { median } from './stats.js';

const MB = 1e6, CHUNK = 16 << 20;

export interface LoadRow {
  file: string;
  bytes: number;
  /** Of `loadModel`, from its call to its promise: seconds, and those of processors. */
  seconds: number[];
  cpuSeconds: number[];
  /** Of reading the file in pieces of 16 MiB into one buffer. */
  readSeconds: number[];
  /** Of the process, bytes. */
  peak: number;
  /** Of what was made of the file, bytes. */
  packedBytes: number;
}

/** GGUF types whose blocks are only moved, one with small scales, one of trits; and what needs nothing. */
export const loadTypes = ['packed', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'TQ1_0', 'TQ2_0'];

/** @param types GGUF types; 'packed': 2 bits in groups of 128 */
export async function benchLoads(shape: Shape, types: string[], rounds: number, onRound: (text: string) => void): Promise<LoadRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-load-')), rows: LoadRow[] = [];
  try {
    for (const type of types) {
      const path = join(folder, type === 'packed' ? 'model.lutra.safetensors' : `${type}.gguf`);
      onRound(`writing ${path}`);
      let paths = [path];
      if (type === 'packed') await writePacked(path, synthetic(shape, '2', 128, '8'));
      else paths = await writeGguf(path, shape, type);
      const row: LoadRow = { file: type === 'packed' ? 'packed, 2 bits g128' : `GGUF ${type}`, bytes: paths.reduce((sum, part) => sum + statSync(part).size, 0), seconds: [], cpuSeconds: [], readSeconds: [], peak: 0, packedBytes: 0 };
      for (let round = 0; round < rounds; round++) {
        onRound(`${row.file}, round ${round + 1} of ${rounds}`);
        row.readSeconds.push(await readAll(paths));
        const { seconds, cpuSeconds, peak, packedBytes } = await load(paths[0]!);
        row.seconds.push(seconds);
        row.cpuSeconds.push(cpuSeconds);
        row.peak = Math.max(row.peak, peak);
        row.packedBytes = packedBytes;
      }
      rows.push(row);
      for (const part of paths) rmSync(part);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return rows;
}

async function readAll(paths: string[]): Promise<number> {
  const buffer = new Uint8Array(CHUNK), begin = performance.now();
  for (const path of paths) {
    const file = await open(path);
    try {
      while ((await file.read(buffer)).bytesRead > 0);
    } finally {
      await file.close();
    }
  }
  return (performance.now() - begin) / 1000;
}

const script = (path: string) => `
  import { readFileSync } from 'node:fs';
  import { loadModel } from ${JSON.stringify(pathToFileURL(join(repoRoot, 'dist', 'index.js')))};
  const before = process.cpuUsage(), begin = performance.now();
  const model = await loadModel(${JSON.stringify(path)}, { threads: 2, context: 64 });
  const seconds = (performance.now() - begin) / 1000, { user, system } = process.cpuUsage(before), { packedBytes } = model.info();
  const peak = process.platform === 'linux' ? /VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1] : process.resourceUsage().maxRSS;
  console.log(JSON.stringify({ seconds, cpuSeconds: (user + system) / 1e6, peak: peak * 1024, packedBytes }));
  await model.dispose();`;

async function load(path: string): Promise<{ seconds: number; cpuSeconds: number; peak: number; packedBytes: number }> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script(path)]);
  return JSON.parse(stdout);
}

/** Rates are medians; MB are millions of bytes of the file. */
export function loadTable(rows: LoadRow[]): string {
  const cells = [['file', 'MB', 'MB/s', 'MB per CPU second', 'plain read MB/s', 'peak MB', 'packed MB'], ...rows.map(({ file, bytes, seconds, cpuSeconds, readSeconds, peak, packedBytes }) => {
    const rate = (times: number[]) => (bytes / MB / median(times)).toFixed(0);
    return [file, (bytes / MB).toFixed(0), rate(seconds), rate(cpuSeconds), rate(readSeconds), (peak / MB).toFixed(0), (packedBytes / MB).toFixed(0)];
  })];
  return aligned(cells).join('\n');
}
