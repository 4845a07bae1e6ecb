/** Who computes, and why. */
import { BadArgumentError, EnvironmentError } from '../errors.js';
import { MAX_THREADS } from '../generated/layout.js';
import type { Crew, EngineOptions } from './types.js';

/** More threads than this seldom help: memory is the bound. */
const MOST_BY_ITSELF = 8;

export interface CrewChoice {
  crew: Crew;
  threads: number;
  reason: string;
}

/**
 * @param cores processors there are
 * @param obstacle why threads cannot share memory here, if they cannot
 */
export function chooseCrew({ crew = 'auto', threads }: Pick<EngineOptions, 'crew' | 'threads'>, cores: number, obstacle: string | undefined): CrewChoice {
  const isAuto = threads === 'auto';
  const wanted = isAuto ? Math.min(cores, MOST_BY_ITSELF) : threads;
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MAX_THREADS) throw new BadArgumentError('threads', `${threads} is not in 1..${MAX_THREADS}`);
  const single = (reason: string): CrewChoice => ({ crew: 'single', threads: 1, reason });
  if (crew === 'single') return single('asked for');
  if (obstacle !== undefined) {
    if (crew === 'shared') throw new EnvironmentError(`memory that threads can share: ${obstacle}`, 'Leave out `crew`, or serve the page with COOP: same-origin and COEP: require-corp.');
    return single(obstacle);
  }
  if (wanted === 1 && crew === 'auto') return single(isAuto ? 'there is one core' : 'one thread was asked for');
  return { crew: 'shared', threads: wanted, reason: `threads can share memory; ${isAuto ? `up to ${wanted} of them, the fastest number is taken` : `${wanted} were asked for`}` };
}
