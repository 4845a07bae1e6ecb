import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Encoding } from '../../src/formats/source.js';
import { blocksOf } from '../../src/pack/encodings.js';
import { blockTypes, decodeBlocks, randomBlocks } from '../formats/gguf-blocks.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';
import { loadWasm } from './wasm.js';

const { wasm, memory, base } = await loadWasm();
const codes = base + (1 << 20), params = codes + (1 << 19), pairs = params + (1 << 19), dst = pairs + (1 << 19);

function decode(name: string, blocks: Uint8Array): Float32Array {
  const { split, group, perBlock, middle = 0 } = blocksOf({ encoding: name.toLowerCase() as Encoding })!, cols = blocks.length / blockTypes[name]!.bytes * blockTypes[name]!.elements;
  new Uint8Array(memory.buffer).set(blocks, base);
  wasm[split]!(base, cols, codes, params);
  if (perBlock) wasm.pairsFromSmall!(params, cols / group, perBlock, middle, pairs);
  wasm.rowFromCodes!(codes, perBlock ? pairs : params, group, cols, dst);
  return new Float32Array(memory.buffer).slice(dst / 4, dst / 4 + cols);
}

function compare(name: string, blocks: Uint8Array, what: string): void {
  const got = decode(name, blocks), want = decodeBlocks(name, blocks), wrong = want.findIndex((value, i) => value !== got[i]);
  assert.is(wrong, -1, `${name}, ${what}: weight ${wrong} is ${got[wrong]}, not ${want[wrong]}`);
}

for (const name of Object.keys(blockTypes)) {
  test(`${name}: random blocks, equal in f32`, () => {
    for (let seed = 1; seed <= 8; seed++) compare(name, randomBlocks(name, seed, seed), `seed ${seed}`);
  });
}

test('halves of all kinds as scales, subnormal ones too', () => {
  for (const name of ['Q4_0', 'Q8_0', 'Q4_1', 'TQ2_0', 'Q6_K']) {
    const { halves, bytes } = blockTypes[name]!, blocks = randomBlocks(name, 64, 7), view = new DataView(blocks.buffer);
    for (let half = 0, block = 0; half < 65536; half += 89) {
      if ((half & 0x7c00) === 0x7c00) continue;
      for (const at of halves) view.setUint16(bytes * block + at, half, true);
      if (++block < 64) continue;
      compare(name, blocks, `halves up to ${half}`);
      block = 0;
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
    // Where token_embd.weight and blk.0.ffn_down.weight begin.
    for (const [name, begin] of [['Q8_0', 1785664], ['Q4_1', 1785664 + 30083328]] as const) {
      const blocks = new Uint8Array(blockTypes[name]!.bytes * 1000);
      readSync(file, blocks, 0, blocks.length, begin);
      const values = decodeBlocks(name, blocks);
      assert.ok(values.every(value => Math.abs(value) < 4) && values.some(value => value !== 0), 'these are the offsets of weights');
      compare(name, blocks, 'real blocks');
    }
    closeSync(file);
  });
}

test.run();
