/** The app's side of the page in the WebView: the same `Model` as everywhere, at the end of a channel of strings. */
import { BadArgumentError, EngineCrashError, EnvironmentError, type LutraError } from '../errors.js';
import { connectModel, type Model } from '../model.js';
import type { WorkerPeer } from '../platform/platform.js';
import { fromWire } from '../runtime/wire-error.js';
import type { LoadOptions } from '../runtime/types.js';
import { decode, encode } from './codec.js';
import type { FromPage, PageStatus, ToPage } from './protocol.js';

const START_DEADLINE_MS = 30_000;

interface Channel {
  opened(): void;
  heard(message: unknown): void;
  died(error: LutraError): void;
}

export class LutraBridge {
  #post: ((text: string) => void) | undefined;
  #status: PageStatus | undefined;
  #waiting: (() => void)[] = [];
  readonly #channels = new Map<number, Channel>();
  #nextChannel = 1;

  /** What the page said of itself; undefined until it runs. */
  get status(): PageStatus | undefined { return this.#status; }

  /**
   * Loads the model at `url` into the WebView: downloaded with progress (`phase: 'download'`), kept on the device where the
   * page may (`status.cache`), then loaded from there.
   * @throws EnvironmentError when the page does not start; EngineCrashError when the system ends it: load again
   */
  async loadModel(url: string, options: LoadOptions = {}): Promise<Model> {
    if (typeof url !== 'string' || !/^https?:/.test(url)) throw new BadArgumentError('url', `${String(url)} is no http(s) URL`, 'The WebView reads models over HTTP only.');
    await this.#whenReady();
    return connectModel(await this.#open(), url, options);
  }

  /** For the view: how strings get to the page. */
  attach(post: (text: string) => void): void { this.#post = post; }

  /** For the view: a string from the page. */
  receive(text: string): void {
    const message = decode(text) as FromPage;
    if ('ready' in message) {
      this.#status = message.ready;
      this.#waiting.splice(0).forEach(go => go());
      return;
    }
    const channel = this.#channels.get(message.channel);
    if ('message' in message) channel?.heard(message.message);
    else if ('opened' in message) channel?.opened();
    else if (this.#channels.delete(message.channel)) channel?.died(fromWire(message.died) as LutraError);
  }

  /** For the view: the page is gone. All models in it reject with EngineCrashError; a new page can be attached. */
  lost(reason: string): void {
    this.#status = undefined;
    const channels = [...this.#channels.values()];
    this.#channels.clear();
    for (const channel of channels) channel.died(new EngineCrashError('work in the WebView', new Error(reason)));
  }

  async #whenReady(): Promise<void> {
    if (this.#status) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new EnvironmentError(`the WebView (its page does not run after ${START_DEADLINE_MS / 1000} s)`, 'Is <LutraView> mounted? Is react-native-webview installed?'));
      }, START_DEADLINE_MS);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async #open(): Promise<WorkerPeer> {
    const channel = this.#nextChannel++;
    const send = (message: ToPage) => this.#post?.(encode(message));
    const listeners: Channel = { opened() {}, heard() {}, died() {} };
    this.#channels.set(channel, listeners);
    await new Promise<void>((resolve, reject) => {
      listeners.opened = resolve;
      listeners.died = reject;
      send({ channel, open: true });
    });
    listeners.died = () => {};
    return {
      post: message => send({ channel, message }),
      onMessage: listener => { listeners.heard = listener; },
      onCrash: listener => { listeners.died = listener; },
      terminate: async () => {
        if (this.#channels.delete(channel)) send({ channel, close: true });
      },
    };
  }
}
