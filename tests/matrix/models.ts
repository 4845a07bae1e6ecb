/** What is run everywhere: models, prompts, options. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GenerateOptions } from 'lutra';
import { lutra } from '../cli/lutra.js';
import { repoRoot, sharedDir } from '../helpers/paths.js';

export interface Case { prompt: string; options: GenerateOptions }
export interface Outcome { ids: number[]; logitsHash: string }

const seeded = { seed: 7, temperature: 0.9, topK: 50, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1 };
/** The last one is short: for emulated processors. */
const casesFor = (maxTokens: number): Record<string, Case> => ({
  greedy: { prompt: 'Once upon a time', options: { temperature: 0, maxTokens } },
  seeded: { prompt: 'Once there was a small fox who', options: { ...seeded, maxTokens } },
  short: { prompt: 'The', options: { ...seeded, maxTokens: 4 } },
});

/** `sha256`: of the file it was made from; packing may change without changing what comes out. */
export interface MatrixModel { name: string; path: string; sha256: string; cases: Record<string, Case> }

/** The embedded model, and SmolLM2 packed as it is, where it can be had. */
export async function matrixModels(): Promise<{ models: MatrixModel[]; missing: string[]; remove(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-matrix-'));
  const models = [describe('stories', join(repoRoot, 'models', 'stories.lutra.safetensors'), 48)], missing: string[] = [];
  const gguf = join(sharedDir() ?? '', 'models', 'smollm2-135m', 'SmolLM2-135M-Instruct.Q4_1.gguf');
  if (sharedDir() && existsSync(gguf)) {
    const packed = join(folder, 'smollm2.lutra.safetensors');
    const { code, stderr } = await lutra(['quantize', gguf, '-o', packed]);
    if (code !== 0) throw new Error(stderr);
    models.push(describe('SmolLM2', packed, 12, gguf));
  } else {
    missing.push('SmolLM2 in the matrix: LUTRA_SHARED is not there');
  }
  return { models, missing, remove: () => rmSync(folder, { recursive: true }) };
}

const describe = (name: string, path: string, maxTokens: number, source = path): MatrixModel =>
  ({ name, path, sha256: createHash('sha256').update(readFileSync(source)).digest('hex'), cases: casesFor(maxTokens) });
