/** GGUF's block types in plain TypeScript, after their definition: block bytes -> f32. */
import { halfToNumber } from '../assembly/reference.js';

const { fround } = Math;
const f = (a: number, b: number) => fround(a * b);

export interface BlockType {
  /** Weights in a block, and its bytes. */
  elements: number;
  bytes: number;
  /** Offsets of its halves. */
  halves: number[];
  /** Bytes that may hold anything; TQ2_0 has fields of two bits that are never 3. */
  value(block: Uint8Array, half: (at: number) => number, e: number): number;
}

const nibble = (b: Uint8Array, at: number, e: number) => b[at + (e & 15)]! >> 4 * (e >> 4) & 15;
const high = (b: Uint8Array, at: number, e: number) => (b[at + (e >> 3)]! >> (e & 7) & 1) << 4;
const pair = (b: Uint8Array, at: number, e: number) => b[at + 32 * (e >> 7) + (e & 31)]! >> 2 * (e >> 5 & 3) & 3;
function kScales(b: Uint8Array, at: number, j: number): [number, number] {
  if (j < 4) return [b[at + j]! & 63, b[at + j + 4]! & 63];
  return [b[at + j + 4]! & 15 | b[at + j - 4]! >> 6 << 4, b[at + j + 4]! >> 4 | b[at + j]! >> 6 << 4];
}
function k45(b: Uint8Array, half: (at: number) => number, e: number, q: number): number {
  const [s, m] = kScales(b, 4, e >> 5);
  return fround(f(f(half(0), s), q) - f(half(2), m));
}
const trit = (byte: number, power: number) => ((byte * 3 ** power & 255) * 3 >> 8) - 1;

export const blockTypes: Record<string, BlockType> = {
  Q4_0: { elements: 32, bytes: 18, halves: [0], value: (b, half, e) => f(half(0), nibble(b, 2, e) - 8) },
  Q4_1: { elements: 32, bytes: 20, halves: [0, 2], value: (b, half, e) => fround(f(half(0), nibble(b, 4, e)) + half(2)) },
  Q5_0: { elements: 32, bytes: 22, halves: [0], value: (b, half, e) => f(half(0), (nibble(b, 6, e) | high(b, 2, e)) - 16) },
  Q5_1: { elements: 32, bytes: 24, halves: [0, 2], value: (b, half, e) => fround(f(half(0), nibble(b, 8, e) | high(b, 4, e)) + half(2)) },
  Q8_0: { elements: 32, bytes: 34, halves: [0], value: (b, half, e) => f(half(0), b[2 + e]! << 24 >> 24) },
  Q2_K: {
    elements: 256, bytes: 84, halves: [80, 82],
    value: (b, half, e) => fround(f(f(half(80), b[e >> 4]! & 15), pair(b, 16, e)) - f(half(82), b[e >> 4]! >> 4)),
  },
  Q3_K: {
    elements: 256, bytes: 110, halves: [108],
    value: (b, half, e) => {
      const j = e >> 4, s = (b[96 + (j & 7)]! >> 4 * (j >> 3) & 15 | (b[104 + (j & 3)]! >> 2 * (j >> 2) & 3) << 4) - 32;
      return f(f(half(108), s), pair(b, 32, e) - (b[e & 31]! >> (e >> 5) & 1 ? 0 : 4));
    },
  },
  Q4_K: { elements: 256, bytes: 144, halves: [0, 2], value: (b, half, e) => k45(b, half, e, b[16 + 32 * (e >> 6) + (e & 31)]! >> 4 * (e >> 5 & 1) & 15) },
  Q5_K: {
    elements: 256, bytes: 176, halves: [0, 2],
    value: (b, half, e) => k45(b, half, e, (b[48 + 32 * (e >> 6) + (e & 31)]! >> 4 * (e >> 5 & 1) & 15) + 16 * (b[16 + (e & 31)]! >> (e >> 5) & 1)),
  },
  Q6_K: {
    elements: 256, bytes: 210, halves: [208],
    value: (b, half, e) => {
      const g = e >> 5 & 3, low = b[64 * (e >> 7) + 32 * (g & 1) + (e & 31)]! >> 4 * (g >> 1) & 15;
      return f(f(half(208), b[192 + (e >> 4)]! << 24 >> 24), low + 16 * pair(b, 128, e) - 32);
    },
  },
  TQ1_0: {
    elements: 256, bytes: 54, halves: [52],
    value: (b, half, e) => f(half(52), e < 160 ? trit(b[e % 32]!, Math.floor(e / 32))
      : e < 240 ? trit(b[32 + (e - 160) % 16]!, Math.floor((e - 160) / 16)) : trit(b[48 + (e - 240) % 4]!, Math.floor((e - 240) / 4))),
  },
  TQ2_0: { elements: 256, bytes: 66, halves: [64], value: (b, half, e) => f(half(64), pair(b, 0, e) - 1) },
};

/** All weights of some blocks. */
export function decodeBlocks(name: string, bytes: Uint8Array): Float32Array {
  const type = blockTypes[name]!;
  return Float32Array.from({ length: bytes.length / type.bytes * type.elements }, (_, i) => {
    const block = bytes.subarray(Math.floor(i / type.elements) * type.bytes), half = (at: number) => halfToNumber(block[at]! | block[at + 1]! << 8);
    return type.value(block, half, i % type.elements);
  });
}

/** Pseudo-random blocks. Scales are finite and of one order of magnitude, as real ones are. */
export function randomBlocks(name: string, count: number, seed: number): Uint8Array {
  const { bytes, halves } = blockTypes[name]!;
  let state = seed * 2654435761 >>> 0;
  const next = () => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) >>> 16;
  const all = Uint8Array.from({ length: count * bytes }, () => next());
  for (let at = 0; at < all.length; at += bytes) {
    // 2^-9 to 2^-6, of either sign.
    for (const half of halves) new DataView(all.buffer).setUint16(at + half, (next() & 0x8000) | 0x1800 + (next() & 0x0fff), true);
    if (name === 'TQ2_0') for (let i = 0; i < 64; i++) all[at + i]! &= ~(all[at + i]! >> 1 & 0x55);
  }
  return all;
}
