/** HTTP for large files: redirects, credentials that stay at home, retries, silence noticed. */
import { DownloadError } from '../errors.js';

export interface HttpOptions {
  /** Bearer token; sent to the host of the address given, to no other. */
  token?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Milliseconds before the second attempt; doubled each time. Default 500. */
  retryDelay?: number | undefined;
  /** A connection that says nothing for so many milliseconds is given up. Default 30000. */
  silence?: number | undefined;
}

/** A response with its body unread. */
export interface Reply {
  status: number;
  /** Of the response, and of the redirects on the way to it where they say more: hubs name checksum and size there. */
  headers: Headers;
  /** Pieces of the body as they arrive. */
  body(): AsyncGenerator<Uint8Array>;
  /** Hangs up. */
  cancel(): void;
}

const ATTEMPTS = 5, HOPS = 8;
/** Servers may ask for more patience than people have. Milliseconds. */
const LONGEST_WAIT = 60_000;
const REDIRECTS = [301, 302, 303, 307, 308], TRANSIENT = [408, 425, 429, 500, 502, 503, 504];
/** What a redirect of a hub says about the file behind it. */
const LINKED = ['x-linked-etag', 'x-linked-size', 'x-repo-commit'];

/**
 * GET, again after failures that pass, those of `use` among them.
 * @throws DownloadError on a status of 400 and above, or when all attempts failed
 */
export async function get<T>(url: string, headers: Record<string, string>, options: HttpOptions, use: (reply: Reply) => Promise<T> | T): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      const reply = await follow(url, headers, options);
      if (reply.status < 400) return await use(reply);
      reply.cancel();
      throw refusal(url, reply);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof DownloadError) || !error.transient || attempt === ATTEMPTS) throw error;
      await patience(attempt, options, error.retryAfter);
    }
  }
}

/** Waits before attempt number `attempt` + 1. `retryAfter`: milliseconds that the server asked for. */
export async function patience(attempt: number, { retryDelay = 500, signal }: HttpOptions, retryAfter?: number): Promise<void> {
  const wait = Math.min(LONGEST_WAIT, retryAfter ?? retryDelay * 2 ** (attempt - 1) * (0.5 + Math.random()));
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, wait);
    signal?.addEventListener('abort', stop);
  });
}

async function follow(start: string, headers: Record<string, string>, { token, signal, silence = 30_000 }: HttpOptions): Promise<Reply> {
  const linked: [string, string][] = [];
  let url = checked(start, start);
  for (let hop = 0; hop <= HOPS; hop++) {
    const controller = new AbortController();
    const hangUp = () => controller.abort(signal?.reason);
    signal?.addEventListener('abort', hangUp, { once: true });
    const over = () => signal?.removeEventListener('abort', hangUp);
    const sent = new Headers({ 'accept-encoding': 'identity', ...headers });
    if (token && url.origin === new URL(start).origin) sent.set('authorization', `Bearer ${token}`);
    // A browser's own cache would keep a model once more, and ask for other parts than these.
    const init: RequestInit = { headers: sent, signal: controller.signal, redirect: 'manual', cache: 'no-store' };
    let response = await quietly(start, silence, controller, fetch(url, init));
    // Browsers do not show redirects. They follow them by themselves, and take the token off where the host changes.
    if (response.type === 'opaqueredirect') response = await quietly(start, silence, controller, fetch(url, { ...init, redirect: 'follow' }));
    if (!REDIRECTS.includes(response.status)) {
      const all = new Headers(response.headers);
      for (const [name, value] of linked) all.set(name, value);
      return {
        status: response.status, headers: all,
        body: () => chunks(start, response, silence, controller, over),
        cancel: () => { over(); controller.abort(); },
      };
    }
    for (const name of LINKED) if (response.headers.has(name)) linked.push([name, response.headers.get(name)!]);
    const location = response.headers.get('location');
    over();
    controller.abort();
    if (!location || !URL.canParse(location, url.href)) throw new DownloadError(start, response.status, 'a redirect to nowhere', 'Check the address.');
    url = checked(new URL(location, url).href, start);
    if (url.protocol === 'http:' && start.startsWith('https:')) throw new DownloadError(start, response.status, `a redirect to ${url.host} without encryption`, 'Do not trust this address.');
  }
  throw new DownloadError(start, 310, `more than ${HOPS} redirects`, 'Check the address.');
}

function checked(url: string, start: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== 'https:' && parsed?.protocol !== 'http:') throw new DownloadError(start, 0, 'is no address of the web', 'Give a URL that begins with https://.');
  return parsed;
}

/** What `work` gives, unless nothing happens for too long. */
async function quietly<T>(url: string, silence: number, controller: AbortController, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await Promise.race([work, new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Error(`nothing arrived for ${silence / 1000} s`));
        controller.abort();
      }, silence);
    })]);
  } catch (cause) {
    const { message, cause: inner } = cause as Error & { cause?: { code?: string; message?: string } };
    throw new DownloadError(url, 0, inner?.code ?? inner?.message ?? message, 'Check the connection and the address, then start again: what has arrived is kept.', { transient: true, cause });
  } finally {
    clearTimeout(timer);
    work.catch(() => {});
  }
}

async function* chunks(url: string, response: Response, silence: number, controller: AbortController, over: () => void): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  try {
    while (reader) {
      const { done, value } = await quietly(url, silence, controller, reader.read());
      if (done) return;
      yield value;
    }
  } finally {
    over();
    controller.abort();
  }
}

function refusal(url: string, { status, headers }: Reply): DownloadError {
  const hints: Record<number, string> = {
    401: 'Set HF_TOKEN (or `token`) to an access token that may read it.', 403: 'Ask for access on its page, and set HF_TOKEN (or `token`) to your access token.',
    404: 'Check the name, and that it is public or your token may read it.', 416: 'The file has changed: start again.', 429: 'Too many requests: wait a while, then start again.',
  };
  const retryAfter = headers.get('retry-after') ?? '', seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return new DownloadError(url, status, `HTTP status ${status}`, hints[status] ?? 'Try again later: what has arrived is kept.', {
    transient: TRANSIENT.includes(status), ...(seconds >= 0 && { retryAfter: 1000 * seconds }),
  });
}

/** All of a small body. */
export async function readAll(url: string, reply: Reply, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of reply.body()) {
    size += part.length;
    if (size > limit) throw new DownloadError(url, reply.status, `more than ${limit} bytes where a short text was expected`, 'Check the address.');
    parts.push(part);
  }
  const all = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
