/** A packed model -> the same weights as f32: what its codes and parameters mean, for evaluation without rounded activations. */
import { TILE_ROWS } from '../generated/layout.js';
import { readBytes } from '../formats/bytes.js';
import { extrasOf, linearShapes, partBorders, planPacked, readPackedHeader, tileBytes, type PartFormat } from '../formats/packed.js';
import { PackedWriter } from '../formats/packed-writer.js';
import type { ByteSource } from '../formats/types.js';
import { Packers } from './packers.js';
import { MemorySink } from './sink.js';

const plain: PartFormat = { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' };

/** The bytes of a packed file in layout 'f32'. */
export async function unpack(source: ByteSource): Promise<Uint8Array<ArrayBuffer>> {
  const header = await readPackedHeader(source);
  const { config, tensors, dataOffset } = header;
  const read = (name: string, at: number, length: number) => readBytes(source, dataOffset + tensors[name]!.begin + at, length, name);
  const whole = (name: string) => read(name, 0, tensors[name]!.end - tensors[name]!.begin);

  const tokenizer = await whole('tokenizer');
  const plan = planPacked(config, extrasOf(name => name in tensors), tokenizer.length, () => plain);
  const sink = new MemorySink();
  const writer = await PackedWriter.begin(sink, config, plan, { ...header.provenance, unpacked: true });
  const packers = await Packers.create();

  const weights = new Set(Object.entries(header.linears).flatMap(([, { rowScale, parts }]) => [rowScale, ...parts.map(part => part.tensor)]));
  for (const name of Object.keys(tensors)) if (!weights.has(name)) await writer.write(name, await whole(name));
  for (const { name, rows, cols, segmented } of linearShapes(config)) {
    const { parts, rowScale } = header.linears[name]!;
    const borders = partBorders(cols, plain, segmented);
    const tile = new Float32Array(TILE_ROWS * cols);
    for (let t = 0; t < Math.ceil(rows / TILE_ROWS); t++) {
      const scale = await read(rowScale, 4 * TILE_ROWS * t, 4 * TILE_ROWS);
      for (const part of parts) {
        const bytes = tileBytes(part, part.colEnd - part.colBegin);
        tile.set(packers.unpackTile(part, await read(part.tensor, t * bytes, bytes), scale), TILE_ROWS * part.colBegin);
      }
      const ones = Float32Array.from({ length: TILE_ROWS }, (_, r) => TILE_ROWS * t + r < rows ? 1 : 0);
      await writer.write(`${name}.rowScale`, new Uint8Array(ones.buffer), 4 * TILE_ROWS * t);
      for (let i = 0; i + 1 < borders.length; i++) {
        const values = tile.slice(TILE_ROWS * borders[i]!, TILE_ROWS * borders[i + 1]!);
        await writer.write(`${name}.${i}`, new Uint8Array(values.buffer), t * values.byteLength);
      }
    }
  }
  await writer.finish();
  return sink.bytes;
}
