/** From a session that holds a prompt to an answer, token by token. */
import type { Engine } from '../engine/types.js';
import { ContextFullError } from '../errors.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { Answer } from './answer.js';
import { PENALTY_WINDOW, type GenerationPlan } from './options.js';
import type { Session } from './session.js';
import type { GenerationResult, Piece } from './types.js';

/** What an answer is made with. */
export interface Voice {
  tokenizer: Tokenizer;
  eosIds: readonly number[];
  /** The answer is a text of its own, not the continuation of one. */
  ownText?: boolean;
  /** Tokens a session holds. */
  context: number;
}

/**
 * @param emit takes a piece and resolves when the next one is wanted
 * @param signal ends the answer where it is; that is a result, not an error
 * @throws ContextFullError when the prompt leaves no room for an answer
 */
export async function generate(session: Session, { tokenizer, eosIds, ownText = false, context }: Voice, plan: GenerationPlan,
  emit: (piece: Piece) => Promise<void>, signal: AbortSignal): Promise<GenerationResult> {
  const promptIds = [...session.ids];
  if (session.full) throw new ContextFullError(promptIds.length + 1, context);
  const cachedTokens = session.reusable;
  const answer = new Answer(tokenizer.stream(ownText ? null : promptIds.at(-1) ?? null), plan.stop);
  const { sampling } = plan;
  let hash = 0n;
  const draw = (engine: Engine) => {
    if (plan.hashLogits) hash = engine.hashLogits(0, hash);
    const recent = sampling.repetitionPenalty === 1 ? [] : session.ids.slice(-PENALTY_WINDOW);
    return engine.sample(0, sampling, answer.ids.length, recent);
  };

  const seconds: number[] = [];
  let finishReason: GenerationResult['finishReason'] | undefined;
  while (!finishReason) {
    const begin = performance.now();
    const token = await session.next(signal, draw).catch(error => {
      if (!signal.aborted) throw error;
    });
    seconds.push((performance.now() - begin) / 1000);
    if (token === undefined) finishReason = 'aborted';
    else if (eosIds.includes(token)) finishReason = 'stop';
    else {
      session.push(token);
      const piece = answer.push(token);
      if (answer.stopped) finishReason = 'stop';
      else if (answer.ids.length >= plan.maxTokens || session.full) finishReason = 'length';
      if (piece) await emit(piece);
    }
  }
  const rest = answer.end();
  if (rest) await emit(rest);

  const [prefillSeconds = 0, ...steps] = seconds;
  const decodeSeconds = steps.reduce((sum, step) => sum + step, 0);
  return {
    text: answer.text,
    ids: answer.ids,
    promptIds,
    finishReason,
    promptTokens: promptIds.length,
    cachedTokens,
    completionTokens: answer.ids.length,
    timings: {
      prefillSeconds,
      decodeSeconds,
      prefillTokensPerSecond: rate(promptIds.length - cachedTokens, prefillSeconds),
      decodeTokensPerSecond: rate(steps.length, decodeSeconds),
    },
    seed: sampling.seed,
    ...(plan.hashLogits && { logitsHash: hash.toString(16).padStart(16, '0') }),
  };
}

const rate = (tokens: number, seconds: number) => (seconds > 0 ? tokens / seconds : 0);
