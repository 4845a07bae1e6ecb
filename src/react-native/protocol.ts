/** What crosses between an app and the page in its WebView, as strings (codec.ts). A channel is a model's worker. */
import type { WireError } from '../runtime/wire-error.js';

/** From the app: a worker is wanted; a message for it; it is no longer needed. */
export type ToPage = { channel: number; open: true } | { channel: number; message: unknown } | { channel: number; close: true };

/** From the page: it runs; a worker runs; a message from it; it died or did not start. */
export type FromPage = { ready: PageStatus } | { channel: number; opened: true } | { channel: number; message: unknown } | { channel: number; died: WireError };

export interface PageStatus {
  /** The page's origin; 'null' where it was made from a string without a `baseUrl`. */
  origin: string;
  /** Downloaded models are kept on the device. Not where the origin is none or insecure. */
  cache: boolean;
  /** The WebView's browser engine. */
  runtime: string;
}
