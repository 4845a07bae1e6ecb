/** The embedded model against the arithmetic of its training (reference.json, from examples/train-ternary/export.py), and what it tells. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel, type Model } from 'lutra';
import { repoRoot } from '../helpers/paths.js';

interface Reference {
  stories: { text: string; tokens: number; nats: number }[];
  prompts: { prompt: string; ids: number[]; gap: number[] }[];
}

const test = suite('the embedded story model');
const { stories, prompts } = JSON.parse(readFileSync(join(repoRoot, 'tests', 'models', 'reference.json'), 'utf8')) as Reference;
let model: Model;
test.before(async () => { model = await loadModel(join(repoRoot, 'models', 'stories.lutra.safetensors')); });
test.after(() => model.dispose());

test('cross-entropy of held-out stories, to 0.005 nats', async () => {
  const { eosIds } = model.info().config;
  let expected = 0, nats = 0, tokens = 0;
  for (const story of stories) {
    const ids = [...await model.tokenize(story.text, { addBos: true }), eosIds[0]!];
    assert.is(ids.length - 1, story.tokens);
    const { logProbabilities } = await model.score(ids);
    nats -= logProbabilities.reduce((sum, x) => sum + x, 0);
    expected += story.nats;
    tokens += story.tokens;
  }
  assert.ok(tokens > 3000);
  assert.ok(Math.abs(nats - expected) / tokens < 0.005, `${nats / tokens} nats, in training ${expected / tokens}`);
});

/** Sums are rounded in another order, and an int8 step may flip: the ids may part only where training had the best logit less than this ahead. */
const CLOSE = 0.1;

test('greedy ids', async () => {
  let whole = 0;
  for (const { prompt, ids, gap } of prompts) {
    const result = await model.generate(prompt, { temperature: 0, maxTokens: ids.length }).result;
    const parted = ids.findIndex((id, i) => id !== result.ids[i]);
    if (parted < 0) whole++;
    else assert.ok(gap[parted]! < CLOSE, `${prompt}: other ids from ${parted} on, where ${gap[parted]} was between the best two logits`);
  }
  assert.ok(whole >= prompts.length / 2, `${whole} of ${prompts.length} to the end`);
});

test('words that were asked for are used', async () => {
  const asked = stories.filter(({ text }) => text.startsWith('Words:')).map(({ text }) => text.split('\n', 1)[0]!);
  let used = 0;
  for (const [seed, line] of asked.entries()) {
    const { text, finishReason } = await model.generate(`${line}\n`, { seed }).result;
    assert.is(finishReason, 'stop');
    if (line.slice('Words: '.length).split(', ').every(word => text.toLowerCase().includes(word))) used++;
  }
  assert.ok(used >= asked.length * 0.9, `${used} of ${asked.length}`);        // all of 100 in the model card's run
});

test('a seed tells its story again', async () => {
  const tell = async (seed: number) => (await model.generate('Words: fox, bell, kind\n', { seed }).result).text;
  assert.is(await tell(1), STORY);
  assert.is.not(await tell(2), STORY);
});

const STORY = 'There once was a fox named Ben. He was so kind. He liked nothing so much as a strange bell. He had a good friend, a clever '
  + 'squirrel named Clara. "Today you go to school," said Mom to Ben. Ben held her hand tight. "What if nobody likes me?" asked Ben. '
  + '"Just be yourself," said Grandma. The teacher was a friendly old owl with round glasses. "Welcome, Ben," she said. And Ben saw '
  + 'that Clara was crying. "Is it your first day too?" Ben asked. Clara nodded. They sang and painted and played with a boat. Ben '
  + 'forgot to be frightened. Grandma was waiting at the gate. Ben talked all the way home.';

test.run();
