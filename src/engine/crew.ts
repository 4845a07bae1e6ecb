/** Who computes, and why. */
import { BadArgumentError, EnvironmentError } from '../errors.js';
import { MAX_THREADS } from '../generated/layout.js';
import type { CrewName, EngineOptions, ForwardRow } from './types.js';

/** Those who compute a pass together. One of them, rank 0, does so here, and holds the logits afterwards. */
export interface Crew {
  /** Begins a pass. @returns its steps */
  begin(rows: readonly ForwardRow[]): number;
  /** Runs steps from `step` on for a while, so that events are not kept waiting for long. @returns the step reached */
  run(step: number, steps: number): number | Promise<number>;
  /** Tells everybody that the engine is broken. */
  fail(): void;
  end(): Promise<void>;
}

/** Milliseconds between two looks at the event loop while computing. */
export const SLICE_MS = 15;

/** More threads than this seldom help: memory is the bound. */
const MOST_BY_ITSELF = 8;

export interface CrewChoice {
  crew: CrewName;
  threads: number;
  reason: string;
}

/**
 * @param cores processors there are
 * @param obstacle why threads cannot share memory here, if they cannot
 */
export function chooseCrew({ crew = 'auto', threads }: Pick<EngineOptions, 'crew' | 'threads'>, cores: number, obstacle: string | undefined): CrewChoice {
  const isAuto = threads === 'auto';
  const wanted = isAuto ? Math.max(crew === 'private' ? 2 : 1, Math.min(cores, MOST_BY_ITSELF)) : threads;
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MAX_THREADS) throw new BadArgumentError('threads', `${threads} is not in 1..${MAX_THREADS}`);
  const single = (reason: string): CrewChoice => ({ crew: 'single', threads: 1, reason });
  if (crew === 'single') return single('asked for');
  if (crew === 'shared' && obstacle !== undefined) {
    throw new EnvironmentError(`memory that threads can share: ${obstacle}`, 'Leave out `crew`, or serve the page with COOP: same-origin and COEP: require-corp.');
  }
  if (wanted === 1 && crew !== 'shared') return single(isAuto ? 'there is one core' : 'one thread was asked for');
  const number = isAuto ? `up to ${wanted} of them, the fastest number is taken` : `${wanted} were asked for`;
  if (crew === 'private') return { crew, threads: wanted, reason: `asked for; workers with memories of their own: ${number}` };
  if (obstacle !== undefined) return { crew: 'private', threads: wanted, reason: `${obstacle}; workers with memories of their own: ${number}` };
  return { crew: 'shared', threads: wanted, reason: `threads can share memory; ${number}` };
}
