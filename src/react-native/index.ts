/**
 * `lutra/react-native`: models in a WebView, since Hermes has no WebAssembly. The component shows nothing; it holds the
 * page that computes.
 */
import { createElement, useEffect, useRef, useState } from 'react';
import { WebView } from 'react-native-webview';
import { LutraBridge } from './bridge.js';

export { LutraBridge } from './bridge.js';
export type { PageStatus } from './protocol.js';
export { Generation, Model, Session } from '../model.js';
export type { GenerateOptions, GenerationResult, LoadOptions, LoadProgress, ModelInfo, Piece, Prompt } from '../runtime/types.js';
export { BadArgumentError, BadModelFileError, ContextFullError, DisposedError, EngineCrashError, EnvironmentError, FileAccessError, LutraError, OutOfMemoryError, UnsupportedFormatError } from '../errors.js';

declare const __LUTRA_PAGE__: string;
/** The HTML of the page, with everything inside. */
export const lutraPage: string = __LUTRA_PAGE__;

/** A secure origin of the page's own: without one a WebView keeps nothing on the device. */
const ORIGIN = 'https://lutra.localhost/';

export interface LutraViewProps {
  lutra: LutraBridge;
  /** Origin of the page; null: none, and then no cache. Default 'https://lutra.localhost/'. */
  baseUrl?: string | null;
  /** The system ended the page: its models are gone, and a new page is starting. */
  onLost?: (reason: string) => void;
}

/** Mount it once, where it stays. */
export function LutraView({ lutra, baseUrl = ORIGIN, onLost }: LutraViewProps): any {
  const view = useRef<{ injectJavaScript(script: string): void } | null>(null);
  // A page that was ended is replaced as a whole: Android destroys the view together with its process.
  const [generation, setGeneration] = useState(0);
  useEffect(() => () => lutra.lost('the view was unmounted'), [lutra]);
  lutra.attach(text => view.current?.injectJavaScript(`lutraReceive(${JSON.stringify(text)});true;`));
  const lost = (reason: string) => {
    lutra.lost(reason);
    onLost?.(reason);
    setGeneration(generation + 1);
  };
  return createElement(WebView, {
    key: generation,
    ref: view,
    source: { html: lutraPage, ...(baseUrl !== null && { baseUrl }) },
    originWhitelist: ['*'],
    style: { width: 0, height: 0, flex: 0, opacity: 0 },
    onMessage: (event: { nativeEvent: { data: string } }) => lutra.receive(event.nativeEvent.data),
    onContentProcessDidTerminate: () => lost('the system ended the page to regain memory'),
    onRenderProcessGone: (event: { nativeEvent: { didCrash: boolean } }) => lost(event.nativeEvent.didCrash ? 'the page crashed' : 'the system ended the page to regain memory'),
    onError: (event: { nativeEvent: { description: string } }) => lost(event.nativeEvent.description),
  });
}

// React Native's AbortSignal is an older one.
const signal = globalThis.AbortSignal?.prototype as { reason?: unknown; throwIfAborted?: () => void } | undefined;
if (signal && !('reason' in signal)) {
  Object.defineProperty(signal, 'reason', { get(this: AbortSignal) { return this.aborted ? Object.assign(new Error('aborted'), { name: 'AbortError' }) : undefined; } });
}
if (signal && !signal.throwIfAborted) signal.throwIfAborted = function (this: AbortSignal) { if (this.aborted) throw this.reason; };
