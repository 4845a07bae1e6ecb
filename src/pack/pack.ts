/** A model in a foreign format -> a packed model file. */
import { BadArgumentError, BadModelFileError } from '../errors.js';
import { TILE_ROWS } from '../generated/layout.js';
import { extrasOf, linearShapes, partBorders, planPacked, tileBytes, vectorLengths, type LinearShape, type PartFormat } from '../formats/packed.js';
import { PackedWriter, type ByteSink } from '../formats/packed-writer.js';
import { readRows, type SourceMatrix, type SourceModel } from '../formats/source.js';
import { cores } from '../platform/platform.js';
import { blocksOf } from './encodings.js';
import { NotFiniteError, type RowsJob, type Tiles } from './packers.js';
import { PackPool } from './pool.js';

/** 'exact': what the source holds, re-arranged; in a form the kernels know where there is one, otherwise as f32. */
export type Bits = 1 | 2 | 3 | 4 | 8 | 'ternary' | 'f32' | 'exact';

export interface PackOptions {
  /** Weights of the linear layers. Default: 'exact' for GGUF and GPTQ, 'ternary' for BitNet, otherwise 4. */
  bits?: Bits;
  /** Columns that share parameters: 32, 64 or 128; default 64, for ternary 128. */
  groupSize?: number;
  /** How the parameters of 1 to 4 bits are stored. Default 'i16'. */
  coding?: 'i16' | 'f16' | 'f32';
  /** Embedding and head; 'int8': one scale a row. Default: 'f32' at level 'f32', as they are at level 'exact', otherwise 'int8'. */
  embedding?: 'int8' | 'f32';
  /** 4: the matrix that makes logits has bit planes of 4.6 bits a weight; where embedding and head are one, that one. Default: like the embedding. */
  headBits?: 4;
  /** Matrices that somebody has rounded already; `bits`, `groupSize` and `coding` are for the others. */
  rounded?: RoundedMatrices;
  /** Workers; default: one for each core, or none where there is little to do. The result does not depend on it. */
  threads?: number;
  /** Called with the weights done and the weights to do. */
  onProgress?: (done: number, total: number) => void;
  /** Called once, while the workers start; what it throws ends the packing. */
  meanwhile?: () => void;
  signal?: AbortSignal;
}

export interface RoundedMatrices {
  /** How it was done, for the file's provenance. */
  method: string;
  formats: ReadonlyMap<string, PartFormat>;
  tiles(name: string): Promise<Tiles>;
}

export interface PackStats {
  /** Of the source's files that hold weights. */
  bytesIn: number;
  /** Of the packed file. */
  bytesOut: number;
  /** Of the linear layers without embedding and head, parameters and row scales included. */
  bitsPerWeight: number;
  /** The same if rows were 2048 weights long: what row scales cost depends on the model's width. */
  bitsPerWeightAt2048: number;
  bits: Bits;
}

/** Rows of one matrix that are packed at once: whole tiles, about so many weights; fewer where no worker has to be told of them. */
const JOB_WEIGHTS = 2 ** 21, LITTLE_JOB_WEIGHTS = 2 ** 18;
const LITTLE_WEIGHTS = 2 ** 28;

interface Step { matrix: SourceMatrix; begin: number; count: number }

/** Packs `source` into `sink`. When it rejects, the sink has been aborted. Does not close the source. */
export async function pack(source: SourceModel, options: PackOptions, sink: ByteSink): Promise<PackStats> {
  let pool: PackPool | undefined;
  const onAbort = () => void pool?.close(options.signal!.reason);
  try {
    options.signal?.throwIfAborted();
    const plan = planFor(source, options), threads = options.threads ?? cores();
    if (!Number.isInteger(threads) || threads < 1 || threads > 64) throw new BadArgumentError('threads', `${threads} is not 1 to 64`);
    const kept = onlyKept(plan);
    pool = await PackPool.start(kept && options.threads === undefined && isLittle(plan) ? 1 : threads, kept, options.meanwhile);
    options.signal?.addEventListener('abort', onAbort);
    options.signal?.throwIfAborted();
    return await run(source, plan, pool, sink, options);
  } catch (error) {
    await sink.abort();
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
    await pool?.close();
  }
}

/** Nothing but re-arranging: jobs are short enough for the thread that gives them to take some. */
const onlyKept = ({ shapes, kept }: Plan) => shapes.every(({ name }) => kept.has(name));
/** Done before workers would have started. */
const isLittle = ({ shapes }: Plan) => shapes.reduce((sum, { rows, cols }) => sum + rows * cols, 0) <= LITTLE_WEIGHTS;

/** Of the packed file's data, bytes; a little more where scales turn out to need 32 bits. */
export function packedBytes(source: SourceModel, options: PackOptions): number {
  const { formats, extras } = planFor(source, options);
  return planPacked(source.config, extras, source.tokenizerJson.length, ({ name }) => formats.get(name)!).dataBytes;
}

type Plan = ReturnType<typeof planFor>;

/** Checks options and source against each other; which format each linear layer gets. */
export function planFor(source: SourceModel, { bits: wanted, groupSize, coding, embedding, headBits, rounded }: PackOptions) {
  const bits = wanted ?? source.defaultBits ?? 4;
  if (![1, 2, 3, 4, 8, 'ternary', 'f32', 'exact'].includes(bits)) throw new BadArgumentError('bits', `${bits} is not 1, 2, 3, 4, 8, ternary, f32 or exact`);
  if (![undefined, 32, 64, 128].includes(groupSize)) throw new BadArgumentError('groupSize', `${groupSize} is not 32, 64 or 128`);
  if (![undefined, 'i16', 'f16', 'f32'].includes(coding)) throw new BadArgumentError('coding', `${coding} is not i16, f16 or f32`);
  if (![undefined, 'int8', 'f32'].includes(embedding)) throw new BadArgumentError('embedding', `${embedding} is not int8 or f32`);
  if (![undefined, 4].includes(headBits)) throw new BadArgumentError('headBits', `${headBits} is not 4`);
  if (bits === 'exact' && (groupSize ?? coding) !== undefined) {
    throw new BadArgumentError(groupSize === undefined ? 'coding' : 'groupSize', 'the weights are kept as they are', 'Leave it out, or give `bits` as well.');
  }

  if (source.defaultBits === 'ternary' && bits !== 'ternary' && [...source.matrices].some(([name, matrix]) => name.startsWith('layers.') && !isTrits(matrix))) {
    throw new BadArgumentError('bits', `${bits} is not what this model's weights become when they are used`, 'Leave it out: they are made ternary.');
  }
  const plain = (layout: 'f32' | 'int8'): PartFormat => ({ layout, planes: 0, groupSize: 0, coding: 'none' });
  const head = source.config.tiedHead ? 'embedding' : 'head';
  const isLookedUp = (name: string) => name === 'embedding' || name === 'head';
  /** The format of a layer whose codes and parameters stay what they are. */
  const keptFormat = ({ name }: LinearShape): PartFormat | undefined => {
    const exact = exactOf(source.matrices.get(name)!);
    if (!exact || rounded?.formats.has(name) || (headBits && name === head)) return undefined;
    if (isLookedUp(name)) {
      // Eight bits with finer scales than one a row cost little, and are there already.
      return !embedding && (bits === 'exact' || (rounded && exact.layout === 'int8')) ? exact : undefined;
    }
    return bits === 'exact' || bits === exact.layout ? exact : undefined;
  };
  const formatOf = (shape: LinearShape): PartFormat => {
    const matrix = source.matrices.get(shape.name)!, given = rounded?.formats.get(shape.name) ?? keptFormat(shape);
    const columns = groupSize ?? (bits === 'ternary' || bits === 'exact' ? 128 : 64);
    if (given) return given;
    if (headBits && shape.name === head) return { layout: 'planes', planes: headBits, groupSize: 128, coding: 'i16' };
    if (isLookedUp(shape.name)) return plain(embedding ?? (bits === 'f32' || bits === 'exact' ? 'f32' : 'int8'));
    if (bits === 'ternary' || (bits === 'exact' && isTrits(matrix))) return { layout: 'ternary', planes: 2, groupSize: columns, coding: 'none' };
    if (bits === 'f32' || bits === 'exact') return plain('f32');
    return bits === 8 ? plain('int8') : { layout: 'planes', planes: bits, groupSize: columns, coding: coding ?? 'i16' };
  };
  const extras = extrasOf(name => source.vectors.has(name));
  const shapes = linearShapes(source.config);
  for (const { name, rows, cols } of shapes) {
    const matrix = source.matrices.get(name);
    if (!matrix || matrix.rows !== rows || matrix.cols !== cols) throw new Error(`importer: ${name} is not [${rows}, ${cols}]`);
  }
  const formats = new Map(shapes.map(shape => [shape.name, formatOf(shape)]));
  const kept = new Set(shapes.filter(keptFormat).map(({ name }) => name));
  return { bits, shapes, formats, kept, extras };
}

async function run(source: SourceModel, plan: Plan, pool: PackPool, sink: ByteSink, options: PackOptions): Promise<PackStats> {
  const { bits, shapes, formats, kept, extras } = plan;
  const weights = (list: { rows: number; cols: number }[]) => list.reduce((sum, { rows, cols }) => sum + rows * cols, 0);

  const rounded = shapes.filter(({ name }) => options.rounded?.formats.has(name)), others = shapes.filter(shape => !rounded.includes(shape));
  const needsMean = others.filter(({ name }) => formats.get(name)!.layout === 'ternary' && !kept.has(name) && !isTrits(source.matrices.get(name)!));
  const exact = bits === 'f32' || bits === 'exact' || (bits === 'ternary' && needsMean.length === 0);
  const method = options.rounded ? options.rounded.method : exact ? 'exact' : bits === 'ternary' ? 'absmean' : bits === 8 ? 'absmax' : 'hlq';
  const perhapsOneScale = others.filter(({ name }) => name.startsWith('layers.') && kept.has(name) && formats.get(name)!.layout === 'ternary');
  const total = weights(others) + weights(needsMean) + weights(perhapsOneScale);
  let done = 0;
  const advance = (step: Step) => options.onProgress?.(done += step.count * step.matrix.cols, total);

  /** What weights of layout 'ternary' are divided by before they are rounded; the row scale. */
  const gammas = new Map<string, number>();
  const overSteps = async (matrix: SourceMatrix, look: (job: RowsJob) => Promise<number>): Promise<number[]> => {
    const steps = [...stepsOf(matrix)], results = new Array<number>(steps.length);
    await inLanes(pool, steps.entries(), async ([i, step]) => {
      results[i] = await named(matrix, look(await rowsJob(pool, step)));
      advance(step);
    });
    return results;
  };

  // BitNet in blocks of which each repeats the one scale of its matrix: the same tiles as from files that say it once.
  const likely: string[] = [];
  await inLanes(pool, perhapsOneScale.values(), async ({ name }) => {
    const matrix = source.matrices.get(name)!, first = { matrix, begin: 0, count: Math.min(TILE_ROWS, matrix.rows) };
    if (Number.isNaN(await pool.oneScale(await rowsJob(pool, first)))) advance({ ...first, count: matrix.rows });
    else likely.push(name);
  });
  for (const name of likely) {
    const scales = new Set(await overSteps(source.matrices.get(name)!, job => pool.oneScale(job)));
    scales.delete(0);
    const [scale = 1] = scales;
    if (scales.size > 1 || Number.isNaN(scale)) continue;
    gammas.set(name, scale);
    formats.set(name, { ...formats.get(name)!, coding: 'none' });
  }
  const layout = planPacked(source.config, extras, source.tokenizerJson.length, ({ name }) => formats.get(name)!);
  const writer = await PackedWriter.begin(sink, source.config, layout, { ...source.provenance, method, lutra: __LUTRA_VERSION__ }, source.chat);

  for (const [name, length] of vectorLengths(source.config, extras)) {
    const vector = source.vectors.get(name);
    if (vector?.length !== length) throw new Error(`importer: ${name} is not [${length}]`);
    if (!vector.every(Number.isFinite)) throw notFinite(source.matrices.get('embedding')!, name);
    await writer.writePadded(name, new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength));
  }
  await writer.writePadded('tokenizer', source.tokenizerJson, 0x20);

  const write = async (name: string, tiles: Tiles, firstTile: number, format: PartFormat, borders: number[]) => {
    await writer.write(`${name}.rowScale`, tiles.rowScale, 4 * TILE_ROWS * firstTile);
    for (const [i, part] of tiles.parts.entries()) {
      await writer.write(`${name}.${i}`, part, firstTile * tileBytes(format, borders[i + 1]! - borders[i]!));
    }
  };
  /** Where a step's tiles go, if that is memory that workers can write to: all parts or none. */
  const places = async (name: string, { begin, count }: Step, format: PartFormat, borders: number[]): Promise<{ into?: Uint8Array[] }> => {
    const into = await Promise.all(borders.slice(1).map((end, i) => {
      const bytes = tileBytes(format, end - borders[i]!);
      return writer.place(`${name}.${i}`, Math.ceil(count / TILE_ROWS) * bytes, begin / TILE_ROWS * bytes);
    }));
    return into.every(place => place !== undefined) ? { into } : {};
  };

  // Partial sums of fixed runs of rows, added up in their order: the mean does not depend on the number of workers.
  for (const { name } of needsMean) {
    const matrix = source.matrices.get(name)!, sums = await overSteps(matrix, job => pool.sum(job));
    const mean = sums.reduce((a, b) => a + b, 0) / (matrix.rows * matrix.cols);
    if (!Number.isFinite(mean)) throw notFinite(matrix);
    gammas.set(name, Math.fround(Math.max(mean, 1e-5)));
  }

  await inLanes(pool, stepsOfAll(source, others, pool.hasWorkers ? JOB_WEIGHTS : LITTLE_JOB_WEIGHTS), async ({ shape, step }) => {
    const { name, cols, segmented } = shape, { matrix } = step;
    const format = formats.get(name)!, borders = partBorders(cols, format, segmented);
    const keepTrits = format.layout === 'ternary' && isTrits(matrix);
    const gamma = keepTrits ? 1 : gammas.get(name) ?? 1;
    const job = await rowsJob(pool, step, keepTrits ? 1 : matrix.scale);
    const tiles = await named(matrix, pool.tiles({
      ...job, format, borders, gamma, ternaryScale: keepTrits ? matrix.scale ?? 1 : gamma, keep: kept.has(name), ...await places(name, step, format, borders),
    }));
    await write(name, tiles, step.begin / TILE_ROWS, format, borders);
    pool.giveBack(tiles);
    advance(step);
  });
  for (const { name, cols, segmented } of rounded) {
    const format = formats.get(name)!;
    await write(name, await options.rounded!.tiles(name), 0, format, partBorders(cols, format, segmented));
  }
  options.signal?.throwIfAborted();
  await writer.finish();

  const linears = shapes.filter(({ name }) => name.startsWith('layers.'));
  const bytes = [...layout.tensors].filter(([name]) => linears.some(linear => name.startsWith(`${linear.name}.`)))
    .reduce((sum, [, { begin, end }]) => sum + end - begin, 0);
  const rowScales = linears.reduce((sum, { rows }) => sum + 4 * TILE_ROWS * Math.ceil(rows / TILE_ROWS), 0);
  return {
    bytesIn: source.bytes, bytesOut: writer.bytes, bits,
    bitsPerWeight: 8 * bytes / weights(linears), bitsPerWeightAt2048: 8 * (bytes - rowScales) / weights(linears) + 32 / 2048,
  };
}

/** The format that keeps a matrix as it is, if there is one. */
const exactOf = (matrix: SourceMatrix) => matrix.exact ?? blocksOf(matrix)?.exact;
export const isTrits = ({ encoding }: Pick<SourceMatrix, 'encoding'>): boolean => encoding === 'ternary2' || encoding === 'i2_s';

function* stepsOf(matrix: SourceMatrix, weights = JOB_WEIGHTS): Generator<Step> {
  const count = TILE_ROWS * Math.max(1, Math.floor(weights / (TILE_ROWS * matrix.cols)));
  for (let begin = 0; begin < matrix.rows; begin += count) yield { matrix, begin, count: Math.min(count, matrix.rows - begin) };
}

function* stepsOfAll(source: SourceModel, shapes: LinearShape[], weights: number): Generator<{ shape: LinearShape; step: Step }> {
  for (const shape of shapes) for (const step of stepsOf(source.matrices.get(shape.name)!, weights)) yield { shape, step };
}

async function rowsJob(pool: PackPool, { matrix, begin, count }: Step, factor = 1): Promise<RowsJob> {
  const { encoding, cols, codes, scales, phase, param = 0, name } = matrix;
  return {
    encoding, rows: count, cols, param, factor,
    codes: await readRows(codes, begin, count, name, pool.sources),
    scales: scales ? await readRows(scales, begin, count, name) : null,
    phases: phase ? Uint32Array.from({ length: count }, (_, i) => phase(begin + i)) : null,
  };
}

/** Runs `work` on all items, as many at once as the pool takes. The first failure stops the others; all have ended on return. */
async function inLanes<T>(pool: PackPool, items: Iterator<T>, work: (item: T) => Promise<void>): Promise<void> {
  let failed = false;
  const lane = async () => {
    for (let next = items.next(); !failed && !next.done; next = items.next()) {
      try {
        await work(next.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: pool.lanes }, lane));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function named<T>(matrix: SourceMatrix, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw error instanceof NotFiniteError ? notFinite(matrix) : error;
  }
}

const notFinite = (matrix: SourceMatrix, name = matrix.name) => new BadModelFileError(matrix.codes.file.name, name, 'holds a weight that is not a finite number');
