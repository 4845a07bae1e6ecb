/** The command line as a process, and small models for it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { llama2cFile, tinyTokenizer, type TinyShape } from '../formats/synthetic.js';
import { repoRoot } from '../helpers/paths.js';

export interface Outcome { code: number | null; stdout: string; stderr: string }

interface Circumstances {
  during?: (child: ChildProcess) => void;
  env?: NodeJS.ProcessEnv;
  /** Program and first arguments of another runtime than the test's. */
  node?: string[];
  /** All of standard input. Without it `during` may write to it. */
  input?: string;
  /** At a terminal, by the program `script`; all output is on stdout then. */
  terminal?: boolean;
}

export function lutra(args: string[], { during, env = {}, input, node = [process.execPath], terminal = false }: Circumstances = {}): Promise<Outcome> {
  return new Promise(resolve => {
    const command = [...node, join(repoRoot, 'dist', 'cli.js'), ...args];
    const [program, ...rest] = terminal ? ['script', '-qec', command.map(word => `'${word}'`).join(' '), '/dev/null'] : command;
    const child = spawn(program!, rest, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    if (input !== undefined || !during) child.stdin.end(input ?? '');
    let stdout = '', stderr = '';
    child.stdout.setEncoding('utf8').on('data', text => { stdout += text; });
    child.stderr.setEncoding('utf8').on('data', text => { stderr += text; });
    child.on('close', code => resolve({ code, stdout, stderr }));
    during?.(child);
  });
}

export const shape: TinyShape = { dim: 32, hiddenDim: 64, nLayers: 2, nHeads: 4, nHeadsKv: 2, vocabSize: 262, contextLength: 128 };

/** A folder with a llama2.c checkpoint `model.bin` of random weights and its tokenizer. */
export function tinyFolder(changes: Partial<TinyShape> = {}): { folder: string; model: string } {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
  const model = join(folder, 'model.bin');
  writeFileSync(model, llama2cFile({ ...shape, ...changes }, 0));
  writeFileSync(join(folder, 'tokenizer.bin'), tinyTokenizer);
  return { folder, model };
}
