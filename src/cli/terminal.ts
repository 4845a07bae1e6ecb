/** What goes to the terminal: the product to stdout, everything else to stderr. */
import { SingleBar } from 'cli-progress';

export const say = (line: string): void => { process.stderr.write(`${line}\n`); };

/** Faint text, where the terminal has colours and its user wants them. */
export function faint(text: string): string {
  return process.stderr.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb' ? `\x1b[2m${text}\x1b[0m` : text;
}

/** One object, one line; large integers as strings. */
export function printJson(value: object): void {
  const line = JSON.stringify(value, (_, field: unknown) => {
    if (typeof field !== 'bigint') return field;
    return field <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(field) : String(field);
  });
  process.stdout.write(`${line}\n`);
}

export interface Progress {
  update(name: string, done: number, total: number): void;
  end(): void;
}

/** A bar on stderr while work takes longer than a moment; nothing where stderr is no terminal. Long work says how much time is left. */
export function progressBar(): Progress {
  if (!process.stderr.isTTY) return { update() {}, end() {} };
  const begin = performance.now();
  let bar: SingleBar | undefined, phase = { name: '', begin, done: 0 };
  const timeLeft = (name: string, done: number, total: number) => {
    const now = performance.now();
    if (name.split(' ')[0] !== phase.name) phase = { name: name.split(' ')[0]!, begin: now, done };
    const seconds = (now - phase.begin) / 1000, left = seconds / (done - phase.done) * (total - done);
    return seconds > 5 && Number.isFinite(left) ? `, ${duration(left)} left` : '';
  };
  return {
    update(name, done, total) {
      const left = timeLeft(name, done, total);
      if (performance.now() - begin < 300) return;
      if (!bar) {
        bar = new SingleBar({ stream: process.stderr, format: '{name} [{bar}] {percentage} %{left}', barCompleteChar: '#', barIncompleteChar: '-', barsize: 30, clearOnComplete: true, hideCursor: null });
        bar.start(total, done, { name, left });
      }
      bar.setTotal(total);
      bar.update(done, { name, left });
    },
    end() { bar?.stop(); },
  };
}

function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  return seconds < 90 ? `${Math.ceil(seconds)} s` : minutes < 90 ? `${minutes} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  return `${(count / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

let controller: AbortController | undefined;
/** Aborted by the first Ctrl-C; the second one ends the process as usual. */
export function interrupt(): AbortSignal {
  if (!controller) {
    const { signal } = controller = new AbortController();
    process.once('SIGINT', () => controller!.abort(new DOMException('interrupted', 'AbortError')));
    return signal;
  }
  return controller.signal;
}
