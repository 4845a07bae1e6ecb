/** Workers that pack. */
import { EngineCrashError } from '../errors.js';
import { spawn, yieldToEvents, type WorkerPeer } from '../platform/platform.js';
import { Buffers } from './buffers.js';
import { work, type Reply, type Request } from './job.js';
import { NotFiniteError, Packers, type CodedJob, type RowsJob, type Tiles, type TilesJob } from './packers.js';

/** Jobs a worker is given before it has answered the first: one to work on, one to go on with. */
const QUEUED = 2;

export class PackPool {
  private readonly waiting = new Map<number, { resolve(value: any): void; reject(reason: unknown): void }>();
  /** Room for the sources of jobs. */
  readonly sources = new Buffers();
  /** What was given back. */
  private readonly results = new Buffers();
  private jobs = 0;
  private broken: unknown;
  /** Jobs under way by worker. */
  private readonly loads: number[];
  /** @param hasWorkers besides this thread */
  private constructor(private readonly workers: WorkerPeer[], readonly hasWorkers: boolean) {
    this.loads = workers.map(() => 0);
    for (const [i, worker] of workers.entries()) {
      worker.onCrash(error => this.breakDown(error));
      worker.onMessage((reply: Reply) => {
        const job = this.waiting.get(reply.id);
        this.waiting.delete(reply.id);
        this.loads[i]!--;
        this.sources.give(...reply.spent);
        if ('result' in reply) job?.resolve(reply.result);
        else job?.reject('error' in reply ? new EngineCrashError('packing', reply.error) : new NotFiniteError());
      });
    }
  }

  /**
   * @param threads that pack
   * @param here whether this one is one of them: with a turn of the event loop after each job
   * @param meanwhile what there is to do while workers start. When it throws, or one does not start, none is left running
   */
  static async start(threads: number, here: boolean, meanwhile: () => void = () => {}): Promise<PackPool> {
    const module = await Packers.compile(), starting = Array.from({ length: here ? threads - 1 : threads }, () => spawn('pack-worker.js', { module }));
    try {
      meanwhile();
      const local = here ? [ownThread(await Packers.create(module))] : [];
      return new PackPool([...await Promise.all(starting), ...local], starting.length > 0);
    } catch (error) {
      const started = (await Promise.allSettled(starting)).filter(one => one.status === 'fulfilled');
      await Promise.all(started.map(one => one.value.terminate()));
      throw error;
    }
  }

  /** How many jobs to have under way at once. */
  get lanes(): number { return QUEUED * this.workers.length; }

  /** Says that tiles are no longer needed: their memory is used for others. */
  giveBack({ parts }: Tiles): void { this.results.give(...parts.map(part => part.buffer as ArrayBuffer)); }

  sum(job: RowsJob): Promise<number> { return this.post({ sum: job }, job); }
  oneScale(job: RowsJob): Promise<number> { return this.post({ oneScale: job }, job); }
  tiles(job: TilesJob): Promise<Tiles> { return this.post({ tiles: job }, job); }
  coded(job: CodedJob): Promise<Tiles> { return this.post({ coded: job }, job); }

  /** Rejects what is under way and stops the workers. */
  async close(reason: unknown = new Error('the pool was closed')): Promise<void> {
    this.breakDown(reason);
    await Promise.all(this.workers.map(worker => worker.terminate()));
  }

  private post<T>(request: object, { codes, scales }: { codes: Uint8Array; scales: Uint8Array | null }): Promise<T> {
    const id = this.jobs++;
    return new Promise((resolve, reject) => {
      if (this.broken !== undefined) return reject(this.broken);
      this.waiting.set(id, { resolve, reject });
      const transfer = [codes, scales].flatMap(bytes => bytes ? [bytes.buffer as ArrayBuffer] : []), spare = this.results.drain();
      const least = this.loads.indexOf(Math.min(...this.loads));
      this.loads[least]!++;
      this.workers[least]!.post({ id, spare, ...request }, [...transfer, ...spare]);
    });
  }

  private breakDown(reason: unknown): void {
    this.broken ??= reason;
    for (const job of this.waiting.values()) job.reject(this.broken);
    this.waiting.clear();
  }
}

/** As a worker, without one. */
function ownThread(packers: Packers): WorkerPeer {
  let heard: (reply: Reply) => void, last = Promise.resolve();
  return {
    post(message) { last = last.then(() => work(message as Request, packers, { post: reply => heard(reply as Reply) })).then(yieldToEvents); },
    onMessage(listener) { heard = listener; },
    onCrash() {},
    async terminate() {},
  };
}
