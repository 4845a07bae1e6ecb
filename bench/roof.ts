/** How fast memory is read here, with one or more threads at the same time: the roof for decoding. */
import { Worker, parentPort, workerData } from 'node:worker_threads';
import { chooseVariant, compile, instantiate } from '../src/engine/instance.js';

const MB = 1 << 20, SIZE = 512 * MB;

/**
 * GB/s of all threads together, each reading memory of its own: WebAssembly from end to end, or 8 places of it in turn;
 * native code from end to end (the C library's memchr with this machine's vectors, through Buffer.indexOf).
 */
export interface ReadRate { sequential: number; streams: number; native: number }

/** What a worker is asked for: that many streams, or native code. */
const NATIVE = 0;

export class Roof {
  private constructor(private readonly workers: Worker[]) {}

  static async start(threads: number): Promise<Roof> {
    const workers = Array.from({ length: threads }, () => new Worker(new URL(import.meta.url), { workerData: 'roof' }));
    await Promise.all(workers.map(worker => new Promise(resolve => worker.once('message', resolve))));
    return new Roof(workers);
  }

  async measure(threads: number): Promise<ReadRate> {
    const rate = async (streams: number) => {
      const all = this.workers.slice(0, threads).map(worker => new Promise<number>(resolve => {
        worker.once('message', resolve);
        worker.postMessage(streams);
      }));
      return (await Promise.all(all)).reduce((a, b) => a + b);
    };
    return { sequential: await rate(1), streams: await rate(8), native: await rate(NATIVE) };
  }

  async stop(): Promise<void> {
    await Promise.all(this.workers.map(worker => worker.terminate()));
  }
}

export const isRoofWorker = workerData === 'roof';

export async function serveRoof(): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: SIZE / 65536 + 16, maximum: SIZE / 65536 + 16 });
  const exports = instantiate(await compile(chooseVariant('auto', false)), memory) as unknown as { readMemory(p: number, n: number, streams: number): number };
  new Uint8Array(memory.buffer, MB, SIZE).fill(1); // pages that were never written are all the same one
  for (let i = 0; i < 20; i++) exports.readMemory(MB, MB, 8); // optimising compiler
  const read = (streams: number) => (at: number) => streams === NATIVE
    ? Buffer.from(memory.buffer, at, SIZE / 4).indexOf(2) // there is none
    : exports.readMemory(at, SIZE / 4, streams);
  parentPort!.on('message', (streams: number) => {
    const once = read(streams), start = performance.now();
    let bytes = 0;
    while (performance.now() - start < 250) {
      once(MB);
      once(MB + SIZE / 2);
      bytes += SIZE / 2;
    }
    parentPort!.postMessage(bytes / (performance.now() - start) / 1e6);
  });
  parentPort!.postMessage('ready');
}
