// bun examples/bun/story.ts "Once upon a time"
import { loadModel } from '../../dist/index.js';

const model = await loadModel(new URL('../../models/stories.lutra.safetensors', import.meta.url));
for await (const { text } of model.generate(Bun.argv[2] ?? 'Once upon a time', { maxTokens: 200 })) {
  await Bun.write(Bun.stdout, text);
}
console.log();
await model.dispose();
