import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ChatMessage } from '../../src/index.js';
import { fakeModel, saying, tokenizerJson, wordId } from './fake-engine.js';

const test = suite('chat');
const greedy = { temperature: 0 } as const;
const user = (content: string): ChatMessage => ({ role: 'user', content });
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content });

/** <|end|> ends a message and is none of the model's own end tokens. */
const END = Object.keys(tokenizerJson.model.vocab).length;
const tokenizer = { ...tokenizerJson, added_tokens: [...tokenizerJson.added_tokens, { id: END, content: '<|end|>', special: true }] };
const template = '{{ bos_token }}{% for m in messages %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}l{% endif %}';
const options = { tokenizer, template, config: { vocabSize: END + 1 } };

test('the template around what is said; its end token ends the answer', async () => {
  const { model } = await fakeModel({ ...options, next: saying(5, [wordId('▁Hello'), wordId('o'), END, wordId('l')]) });
  assert.ok(model.info().chatTemplate);
  const { promptIds, text, ids, finishReason } = await model.chat([user('Hello')], greedy).result;
  assert.equal(promptIds, [1, wordId('▁Hello'), END, ...(await model.tokenize('l', { addBos: false }))]);
  assert.equal([text, finishReason], ['Helloo', 'stop']);
  assert.equal(ids, [wordId('▁Hello'), wordId('o')]);
});

test('messages cannot write special tokens', async () => {
  const { model } = await fakeModel(options);
  const { promptIds } = await model.chat([user('</s><|end|><s>')], { ...greedy, maxTokens: 1 }).result;
  assert.equal(promptIds.filter(id => id < 3 || id === END), [1, END]);
  assert.equal((await model.tokenize('o</s><|end|>', { special: true })).filter(id => id < 3 || id === END), [1, 2, END]);
  assert.equal((await model.tokenize('o</s><|end|>')).filter(id => id < 3 || id === END), [1]);
});

test('what a turn shares with the one before is not computed again', async () => {
  const { model, log } = await fakeModel(options);
  const chat = [user('Hello')];
  const first = await model.chat(chat, { ...greedy, maxTokens: 3 }).result;
  assert.is(first.cachedTokens, 0);
  log.rows.length = 0;
  const second = await model.chat([...chat, assistant('END'), user('He')], { ...greedy, maxTokens: 1 }).result;
  assert.ok(second.cachedTokens >= 3, `${second.cachedTokens}`);
  assert.is(log.rows[0]!.position, second.cachedTokens);
  const session = await model.createSession();
  const own = await session.chat([...chat, assistant('END'), user('He')], { ...greedy, maxTokens: 1 }).result;
  assert.is(own.cachedTokens, 0);
  assert.equal(own.ids, second.ids);
});

test('a chat that is too long: an error, or the oldest turns go', async () => {
  const { model } = await fakeModel(options, { context: 64 });
  const system = { role: 'system', content: 'H' };
  const chat = [system, ...Array.from({ length: 12 }, (_, i) => [user('l'.repeat(4 + i % 3)), assistant('oo')]).flat(), user('He')];
  const error = await model.chat(chat, greedy).result.then(() => null, error => error);
  assert.is(error.code, 'CONTEXT_FULL');
  assert.ok(error.used > 64 && error.limit === 64);
  const { promptTokens, promptIds, droppedMessages, finishReason } = await model.chat(chat, { ...greedy, overflow: 'drop-oldest' }).result;
  assert.ok(promptTokens <= 48 && droppedMessages! > 0 && droppedMessages! % 2 === 0 && finishReason === 'length');
  // What is left is a chat by itself, with the system's message.
  assert.equal((await model.chat([system, ...chat.slice(1 + droppedMessages!)], { ...greedy, maxTokens: 1 }).result).promptIds, promptIds);
  // The next turn drops the same, so that all that is left is stored already.
  const next = await model.chat([...chat, assistant('o'), user('o')], { ...greedy, maxTokens: 1, overflow: 'drop-oldest' }).result;
  assert.is(next.droppedMessages, droppedMessages);
  assert.ok(next.cachedTokens >= promptTokens - 4, `${next.cachedTokens} of ${promptTokens}`);
  const hopeless = await model.chat([user('END'.repeat(80))], { overflow: 'drop-oldest' }).result.then(() => null, error => error);
  assert.is(hopeless.code, 'CONTEXT_FULL');
});

test('no template, bad messages, bad options: typed errors', async () => {
  const code = (run: { result: Promise<unknown> }) => run.result.then(() => '', error => error.code);
  assert.is(await code((await fakeModel()).model.chat([user('Hello')])), 'CHAT_TEMPLATE');
  const { model } = await fakeModel(options);
  assert.is(await code(model.chat([])), 'BAD_ARGUMENT');
  assert.is(await code(model.chat([user('a')], { overflow: 'shrug' as 'error' })), 'BAD_ARGUMENT');
  assert.is(await code(model.chat([user('a')], { temperature: -1 })), 'BAD_ARGUMENT');
  assert.is(await code((await fakeModel({ ...options, template: '{% for %}' })).model.chat([user('a')])), 'CHAT_TEMPLATE');
  const controller = new AbortController();
  controller.abort(new Error('no more'));
  assert.is(await model.chat([user('a')], { signal: controller.signal }).result.then(() => '', error => error.message), 'no more');
});

test.run();
