/** Whoever is measured. */

/** Tokens a second. */
export interface Rates { prefill: number; decode: number }

export interface Contestant {
  name: string;
  version: string;
  /** What it runs, as "Q2_K" or "2 bits g128". */
  model: string;
  threads: number;
  /** Of weights, that a decode step reads. */
  bytes: number;
  /** `prompt` tokens into an empty context at once, then `generated` more, one after the other. */
  measure(prompt: number, generated: number): Promise<Rates>;
  close(): Promise<void>;
}

/** A peer that cannot be had, and why. */
export interface Absent { name: string; reason: string }

/** Some id of a small vocabulary; which one does not matter for speed. */
export const tokenAt = (position: number): number => 3 + 7 * position % 97;

export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
