/** llama.cpp, compiled for this machine's instructions: the prebuilt library of node-llama-cpp. */
import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tokenAt, type Contestant } from '../contestant.js';
import { peerRequire } from './install.js';
import type { NativeReply, NativeRequest } from './native-process.js';

const target = `${process.platform}-${process.arch}`;

/** One process, shared by the contestants of all thread counts. */
export async function openNative(file: string, model: string, bytes: number, counts: number[], context: number): Promise<Contestant[]> {
  let entry: string;
  try {
    entry = peerRequire.resolve(`@node-llama-cpp/${target}`);
  } catch {
    throw new Error(`no prebuilt library of llama.cpp for ${target} is pinned in bench/peers/package.json`);
  }
  const folder = join(dirname(dirname(entry)), 'bins', target);
  const { buildOptions } = JSON.parse(readFileSync(join(folder, '_nlcBuildMetadata.json'), 'utf8')) as { buildOptions: { llamaCpp: { release: string } } };

  const child = fork(join(import.meta.dirname, 'bench-native.js'), { stdio: ['ignore', 2, 2, 'ipc'] });
  const quit = () => child.kill('SIGKILL');
  process.once('exit', quit);
  const close = async () => {
    process.off('exit', quit);
    quit();
  };
  try {
    await ask(child, { open: { addon: join(folder, 'llama-addon.node'), model: file, context } });
  } catch (error) {
    await close();
    throw error;
  }
  const tokens = (from: number, count: number) => Array.from({ length: count }, (_, i) => tokenAt(from + i));
  return counts.map((threads): Contestant => ({
    name: 'llama.cpp native', version: buildOptions.llamaCpp.release, model, threads, bytes,
    async measure(prompt, generated) {
      const reply = await ask(child, { threads, prompt: tokens(0, prompt), generated: tokens(prompt, generated) });
      if (!('prefill' in reply)) throw new Error('an answer to something else');
      return { prefill: prompt / reply.prefill, decode: generated / reply.decode };
    },
    close,
  }));
}

function ask(child: ChildProcess, request: NativeRequest): Promise<NativeReply> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null, signal: string | null) => reject(new Error(`the process of llama.cpp ended with ${signal ?? `code ${code}`}`));
    child.once('exit', onExit);
    child.once('message', (reply: NativeReply) => {
      child.off('exit', onExit);
      if ('error' in reply) reject(new Error(reply.error));
      else resolve(reply);
    });
    if (child.connected) child.send(request);
    else onExit(child.exitCode, child.signalCode);
  });
}
