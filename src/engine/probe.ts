/**
 * How many members a private crew should have, settled by timing. The slices, and with them what each member loads,
 * depend on the number, so it is settled before the weights come: with a few layers of the model's own shape, filled with
 * any bytes, over as many memories.
 */
import { extrasOf, planPacked } from '../formats/packed.js';
import type { PackedHeader } from '../formats/types.js';
import { TILE_ROWS } from '../generated/layout.js';
import { now, yieldToEvents } from '../platform/platform.js';
import type { Crew } from './crew.js';
import type { Member } from './member.js';

/** More than the caches of most cores. */
const PROBE_BYTES = 64 << 20;

/** The model's first layers, as many as make up PROBE_BYTES, between a vocabulary of one tile. */
export function probeHeader(header: PackedHeader): PackedHeader {
  const { config, linears, tensors } = header;
  const layerBytes = Object.entries(tensors).reduce((sum, [name, { begin, end }]) => sum + (name.startsWith('layers.0.') ? end - begin : 0), 0);
  const nLayers = Math.max(1, Math.min(config.nLayers, Math.floor(PROBE_BYTES / layerBytes)));
  const small = { ...config, nLayers, vocabSize: TILE_ROWS };
  const plan = planPacked(small, extrasOf(name => name in tensors), 1, ({ name }) => linears[name]!.parts[0]!);
  return { ...header, config: small, linears: plan.linears, tensors: Object.fromEntries(plan.tensors), dataBytes: plan.dataBytes };
}

/** Codes with any bits, so that every page is a page of its own. Norms and row scales stay 0: all sums are 0. */
export function fillForProbe({ memory, plan, options: { header } }: Member): void {
  for (const [name, { begin, end, at }] of plan.tensors) {
    if (header.tensors[name]!.dtype === 'U8') new Uint8Array(memory.buffer, at, end - begin).fill(0x55);
  }
}

/** Milliseconds of decode steps, the first of them left out: they warm up. */
export async function timePasses(crew: Crew): Promise<number[]> {
  const times: number[] = [], row = { session: 0, position: 0, token: 0, wantLogits: false };
  for (let begin = now(), warm = 0; times.length < 5 || now() - begin < 60;) {
    const start = now(), steps = crew.begin([row]);
    for (let step = 0; step < steps;) step = await crew.run(step, steps);
    if (warm < 5 || now() - begin < 30) warm++;
    else times.push(now() - start);
    await yieldToEvents();
  }
  return times;
}
