/** Reading bytes from outside: every length is checked against the bytes that back it before anything is allocated. */
import { BadModelFileError } from '../errors.js';
import { largeBytes } from '../platform/platform.js';
import type { ByteSource } from './types.js';

/** Where bytes that are read go, and what happens to those that are no longer needed. */
export interface Room {
  take(length: number): Uint8Array<ArrayBuffer>;
  give(buffer: ArrayBuffer): void;
}
export const fresh: Room = { take: largeBytes, give() {} };

/** `length` bytes at `offset`. `field` names them in the error. */
export async function readBytes(source: ByteSource, offset: number, length: number, field: string, room = fresh): Promise<Uint8Array<ArrayBuffer>> {
  checkRange(source, offset, length, field);
  const bytes = room.take(length);
  await source.read(bytes, offset);
  return bytes;
}

export function checkRange(source: ByteSource, offset: number, length: number, field: string): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0 || offset + length > source.size) {
    throw new BadModelFileError(source.name, field, `needs ${length} bytes at ${offset}, the file has ${source.size}`);
  }
}

/** More than the largest tokenizers have (half a million merges, a list each). */
export const MAX_BRACKETS = 2 ** 20;
export const tooManyBrackets = (brackets: number, most: number): string => `${brackets} brackets in its JSON, at most ${most} make sense`;

/**
 * A JSON object. `maxBrackets` bounds the lists and objects in it: a parser's time and memory follow their number, and a
 * file of nothing but brackets would keep it busy for minutes.
 */
export function parseJson(bytes: Uint8Array, path: string, field: string, maxBrackets = MAX_BRACKETS): Record<string, any> {
  let brackets = 0;
  // No iterator: megabytes are read here before anything is compiled.
  for (let i = 0; i < bytes.length; i++) if ((bytes[i]! | 0x20) === 0x7b) brackets++;
  if (brackets > maxBrackets) throw new BadModelFileError(path, field, tooManyBrackets(brackets, maxBrackets));
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new BadModelFileError(path, field, `is not JSON (${(cause as Error).message})`);
  }
  if (!isObject(value)) throw new BadModelFileError(path, field, 'is not a JSON object');
  return value;
}

/** A value from a file, for a message: short, whatever it is. */
export function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(typeof value === 'string' ? value.slice(0, LONGEST_SHOWN) : value) ?? 'nothing';
  } catch {
    text = 'a value nested too deeply';
  }
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
}
const LONGEST_SHOWN = 100;

export const isObject = (value: unknown): value is Record<string, any> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Walks through little-endian values; every step is checked against the end. */
export class ByteReader {
  at = 0;
  /** Something was asked for that goes beyond the end. */
  exhausted = false;
  private readonly view: DataView;
  constructor(private readonly bytes: Uint8Array, readonly path: string) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  get left(): number { return this.bytes.length - this.at; }
  i32(field: string): number { return this.view.getInt32(this.step(4, field), true); }
  u32(field: string): number { return this.view.getUint32(this.step(4, field), true); }
  u8(field: string): number { return this.view.getUint8(this.step(1, field)); }
  f32(field: string): number { return this.view.getFloat32(this.step(4, field), true); }
  /** Sizes: above 2^53 they mean nothing. */
  u64(field: string): number {
    const low = this.u32(field), value = low + 2 ** 32 * this.u32(field);
    if (!Number.isSafeInteger(value)) throw new BadModelFileError(this.path, field, `${value} is too large`);
    return value;
  }
  take(length: number, field: string): Uint8Array {
    const begin = this.step(length, field);
    return this.bytes.subarray(begin, begin + length);
  }
  /** The next `length` bytes as a view. */
  span(length: number, field: string): DataView {
    return new DataView(this.view.buffer, this.view.byteOffset + this.step(length, field), length);
  }
  /** The bytes from `begin` to here. */
  since(begin: number): Uint8Array { return this.bytes.subarray(begin, this.at); }
  private step(length: number, field: string): number {
    if (length > this.left) {
      this.exhausted = true;
      throw new BadModelFileError(this.path, field, `needs ${length} bytes at ${this.at}, ${this.left} are left`);
    }
    const begin = this.at;
    this.at += length;
    return begin;
  }
}
