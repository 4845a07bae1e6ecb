/** Chat templates as models publish them; src/chat/ runs them. */
import { BadModelFileError } from '../errors.js';
import { isObject } from './bytes.js';
import type { Metadata } from './gguf.js';
import type { ChatFormat } from './types.js';

/** Characters. The longest templates in use have a third of it. */
const LONGEST_TEMPLATE = 2 ** 17;
const LONGEST_TOKEN = 256;
const TOKENS = ['bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask'];

/** @param value from a file's header; undefined where the model has no template */
export function checkChat(value: unknown, path: string): ChatFormat | undefined {
  if (value === undefined) return undefined;
  const fail = (field: string, problem: string): never => { throw new BadModelFileError(path, field, problem); };
  if (!isObject(value) || typeof value.template !== 'string') return fail('chat.template', 'is no text');
  const { template, tokens } = value;
  if (template.length > LONGEST_TEMPLATE) fail('chat.template', `${template.length} characters, at most ${LONGEST_TEMPLATE} make sense`);
  if (!isObject(tokens)) return fail('chat.tokens', 'is no object');
  for (const [name, token] of Object.entries(tokens)) {
    const sound = TOKENS.some(one => name === `${one}_token`) && typeof token === 'string' && token.length <= LONGEST_TOKEN;
    if (!sound) fail(`chat.tokens.${name.slice(0, LONGEST_TOKEN)}`, 'is no special token');
  }
  return { template, tokens };
}

/** @param token how an id of the vocabulary is written */
export function ggufChat(metadata: Metadata, token: (id: number) => string | undefined): ChatFormat | undefined {
  const template = metadata.string('tokenizer.chat_template');
  if (!template) return undefined;
  const names: Record<string, string> = { unk: 'unknown', pad: 'padding', sep: 'seperator' };
  const tokens = TOKENS.map(name => [`${name}_token`, token(metadata.number(`tokenizer.ggml.${names[name] ?? name}_token_id`) ?? -1)]);
  return checkChat({ template, tokens: Object.fromEntries(tokens.filter(([, written]) => written !== undefined)) }, metadata.path);
}

/**
 * @param config tokenizer_config.json
 * @param file chat_template.jinja, or the field of chat_template.json, where there is one: it comes first
 */
export function huggingFaceChat(config: Record<string, any>, file: string | undefined, path: string): ChatFormat | undefined {
  const own: unknown = config.chat_template;
  // Several templates have names; the others are for tools and retrieval.
  const template = file ?? (Array.isArray(own) ? own.find(one => one?.name === 'default')?.template : own);
  if (typeof template !== 'string' || template === '') return undefined;
  const written = (token: unknown) => isObject(token) ? token.content as unknown : token;
  const tokens = TOKENS.map(name => [`${name}_token`, written(config[`${name}_token`])]);
  return checkChat({ template, tokens: Object.fromEntries(tokens.filter(([, token]) => typeof token === 'string')) }, path);
}
