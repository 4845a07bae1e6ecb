// Samples stories from a packed model with Lutra, for check.py and for the model card, and measures the way to the first token.
//
//   python stories.py --heldout --count 800 --json | node sample.mjs MODEL.lutra.safetensors SAMPLES.json [--count 200] [--uncut]
//
// Every second story is asked for three words, those of a held-out story's own "Words:" line. Story n has seed n. The sampling is
// what `lutra run` does without options: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05; with --uncut temperature 0.8 alone.
import { writeFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { loadModel } from 'lutra';

const { values, positionals: [path, out] } = parseArgs({
  allowPositionals: true, options: { count: { type: 'string', default: '200' }, uncut: { type: 'boolean' } },
});
const started = performance.now();
const model = await loadModel(path);
for await (const _ of model.generate('Once', { maxTokens: 1 }));
console.error(`load to first token: ${(performance.now() - started).toFixed(0)} ms, from the start of the process: ${performance.now().toFixed(0)} ms`);

const lines = (await text(process.stdin)).trim().split('\n').map(line => JSON.parse(line)).filter(({ words }) => words.length > 0);
const prompts = Array.from({ length: Number(values.count) }, (_, i) => i % 2 ? `Words: ${lines[i >> 1].words.join(', ')}\n` : i % 4 ? 'Once' : '');
const samples = [];
for (const [seed, prompt] of prompts.entries()) {
  const result = await model.generate(prompt, { seed, temperature: 0.8, ...(values.uncut && { topK: 0, topP: 1, minP: 0 }) }).result;
  samples.push({ prompt, text: result.text, ended: result.finishReason === 'stop' });
}
writeFileSync(out, `${JSON.stringify(samples, undefined, 1)}\n`);
await model.dispose();
