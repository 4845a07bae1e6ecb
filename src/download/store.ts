/** Where downloads are kept, and what is there of them. */
import type { ByteSink } from '../formats/packed-writer.js';

/** A file that is not complete. It survives the process that writes it. */
export interface Part {
  /** Bytes that are there. */
  readonly size: number;
  read(target: Uint8Array, offset: number): Promise<void>;
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Forgets the bytes from `size` on. */
  truncate(size: number): Promise<void>;
  /** It appears under its name, whole. Ends the part, as do the following. */
  finish(): Promise<void>;
  close(): Promise<void>;
  remove(): Promise<void>;
}

/** Names are paths of plain words, with slashes. */
export interface Store {
  /** What `openFile` knows an entry, or a folder of them, by. */
  location(name: string): string;
  /** Whether there is a complete entry of this name. */
  has(name: string): Promise<boolean>;
  /** What was written before under the same name and version, to go on with. */
  part(name: string, version: string): Promise<Part>;
  /** A new entry. */
  sink(name: string): Promise<ByteSink>;
  /** An entry, or all whose names begin with it and a slash. */
  remove(name: string): Promise<void>;
  list(): Promise<{ name: string; bytes: number }[]>;
}
