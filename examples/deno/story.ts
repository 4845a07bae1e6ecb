// deno run --allow-read examples/deno/story.ts "Once upon a time"
import { loadModel } from '../../dist/index.js';

const model = await loadModel(new URL('../../models/stories.lutra.safetensors', import.meta.url));
const encoder = new TextEncoder();
for await (const { text } of model.generate(Deno.args[0] ?? 'Once upon a time', { maxTokens: 200 })) {
  await Deno.stdout.write(encoder.encode(text));
}
console.log();
await model.dispose();
