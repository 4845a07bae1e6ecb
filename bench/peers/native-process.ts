/** llama.cpp in a process of its own, through the addon in node-llama-cpp's prebuilt package: no layer of node-llama-cpp is timed. */
import { dirname } from 'node:path';

interface Addon {
  markLoaded(): void;
  setLogger(log: (level: number, message: string) => void): void;
  setLoggerLogLevel(level: number): void;
  loadBackends(folder?: string): void;
  getGpuType(): string | false | undefined;
  init(): Promise<void>;
  systemInfo(): string;
  AddonModel: new (path: string, options: object) => { init(): Promise<boolean> };
  AddonContext: new (model: object, options: object) => Context;
}
interface Context {
  init(): Promise<boolean>;
  setThreads(threads: number): void;
  initBatch(size: number): void;
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): void;
  decodeBatch(): Promise<void>;
  removeTokenCellsFromSequence(sequence: number, begin: number, end: number): boolean;
}

export interface NativeOptions { addon: string; model: string; context: number }
export type NativeRequest = { open: NativeOptions } | { threads: number; prompt: number[]; generated: number[] };
/** Seconds, or how far it came, or why it failed. */
export type NativeReply = { system: string } | { prefill: number; decode: number } | { error: string };

let context: Context;

async function open({ addon: path, model: file, context: contextSize }: NativeOptions): Promise<NativeReply> {
  const addon = { exports: {} as Addon } as NodeJS.Module;
  process.dlopen(addon, path);
  const llama = addon.exports as Addon;
  llama.markLoaded();
  llama.setLogger(() => {});
  llama.setLoggerLogLevel(1);
  llama.loadBackends();
  if (llama.getGpuType() === undefined) llama.loadBackends(dirname(path));
  await llama.init();
  const model = new llama.AddonModel(file, { addonExports: llama, gpuLayers: 0, useMmap: true });
  if (!await model.init()) throw new Error('the model was refused');
  context = new llama.AddonContext(model, { contextSize, batchSize: 512, sequences: 1, flashAttention: 'auto', threads: 1 });
  if (!await context.init()) throw new Error('no context');
  return { system: llama.systemInfo() };
}

async function decode(position: number, tokens: number[]): Promise<void> {
  context.initBatch(tokens.length);
  context.addToBatch(0, position, Uint32Array.from(tokens), Uint32Array.of(tokens.length - 1));
  await context.decodeBatch();
}

async function measure(threads: number, prompt: number[], generated: number[]): Promise<NativeReply> {
  context.setThreads(threads);
  context.removeTokenCellsFromSequence(0, 0, -1);
  const begin = performance.now();
  await decode(0, prompt);
  const middle = performance.now();
  for (const [i, token] of generated.entries()) await decode(prompt.length + i, [token]);
  return { prefill: (middle - begin) / 1000, decode: (performance.now() - middle) / 1000 };
}

process.on('message', async (request: NativeRequest) => {
  const reply = await ('open' in request ? open(request.open) : measure(request.threads, request.prompt, request.generated))
    .catch((error: Error): NativeReply => ({ error: error.message }));
  process.send!(reply);
});
