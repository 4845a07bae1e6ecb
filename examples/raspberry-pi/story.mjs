#!/usr/bin/env node
// A story an hour, say: node story.mjs [MODEL] [PROMPT]. Without a model: the one that comes with the package.
import { fileURLToPath } from 'node:url';
import { loadModel, LutraError } from 'lutra';

const [path = fileURLToPath(import.meta.resolve('lutra/models/stories.lutra.safetensors')), prompt = 'Once upon a time'] = process.argv.slice(2);
try {
  const model = await loadModel(path);
  const generation = model.generate(prompt, { maxTokens: 200 });
  process.on('SIGTERM', () => generation.cancel());
  process.stdout.write(prompt);
  for await (const { text } of generation) process.stdout.write(text);
  const { timings } = await generation.result;
  const { threads, wasm } = model.info();
  console.error(`\n${timings.decodeTokensPerSecond.toFixed(1)} tokens/s, ${threads} threads, ${wasm}`);
  await model.dispose();
} catch (error) {
  console.error(error instanceof LutraError ? `${error.message}\n${error.hint}` : error);
  process.exitCode = 1;
}
