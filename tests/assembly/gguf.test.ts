import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { blockEncodings } from '../../src/pack/encodings.js';
import { blockTypes, decodeBlocks, randomBlocks } from '../formats/gguf-blocks.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';
import { loadWasm } from './wasm.js';

const { wasm, memory, base } = await loadWasm();
const codes = base + (1 << 20), params = codes + (1 << 19), dst = params + (1 << 19);

function decode(name: string, blocks: Uint8Array): Float32Array {
  const { split, group } = blockEncodings[name.toLowerCase() as keyof typeof blockEncodings], cols = blocks.length / blockTypes[name]!.bytes * blockTypes[name]!.elements;
  new Uint8Array(memory.buffer).set(blocks, base);
  wasm[split]!(base, cols, codes, params);
  wasm.rowFromCodes!(codes, params, group, cols, dst);
  return new Float32Array(memory.buffer).slice(dst / 4, dst / 4 + cols);
}

for (const name of Object.keys(blockTypes)) {
  test(`${name}: random blocks, equal in f32`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const blocks = randomBlocks(name, seed, seed), want = decodeBlocks(name, blocks);
      decode(name, blocks).forEach((value, i) => assert.ok(value === want[i], `weight ${i}: ${value}, not ${want[i]}`));
    }
  });
}

test('every half as a scale, subnormal ones too', () => {
  for (const name of ['Q4_0', 'Q8_0', 'Q4_1', 'TQ2_0', 'Q6_K']) {
    const { halves, bytes } = blockTypes[name]!, blocks = randomBlocks(name, 64, 7);
    for (let half = 0; half < 65536; half += 64) {
      for (let i = 0; i < 64; i++) {
        const value = half + i;
        if ((value & 0x7c00) === 0x7c00) continue;
        for (const at of halves) new DataView(blocks.buffer).setUint16(i * bytes + at, value, true);
      }
      const want = decodeBlocks(name, blocks);
      assert.ok(decode(name, blocks).every((value, i) => value === want[i]), `${name}, halves from ${half}`);
    }
  }
});

test('TQ2_0: a field of 3 is no trit', () => {
  const blocks = randomBlocks('TQ2_0', 1, 1);
  blocks[17]! |= 0x0c;
  assert.ok(decode('TQ2_0', blocks).some(Number.isNaN));
});

const shared = sharedDir();
if (!shared) {
  skip(test, 'blocks of a real file', 'LUTRA_SHARED is not set');
} else {
  test('blocks of a real file', () => {
    const file = openSync(join(shared, 'models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf'), 'r');
    // Offsets of token_embd.weight and blk.0.ffn_down.weight.
    for (const [name, begin] of [['Q8_0', 1785664], ['Q4_1', 1785664 + 30083328]] as const) {
      const blocks = new Uint8Array(blockTypes[name]!.bytes * 1000), want = (readSync(file, blocks, 0, blocks.length, begin), decodeBlocks(name, blocks));
      assert.ok(want.every(value => Math.abs(value) < 4) && want.some(value => value !== 0));
      assert.ok(decode(name, blocks).every((value, i) => value === want[i]));
    }
    closeSync(file);
  });
}

test.run();
