import { loadModel } from 'lutra';

async function main() {
  const model = await loadModel(await (await fetch('/model')).arrayBuffer(), { threads: 2 });
  const { text, completionTokens } = await model.generate('Once upon a time', { temperature: 0, maxTokens: 20 }).result;
  const { crew, wasm } = model.info();
  await model.dispose();
  const imported = await loadModel(await (await fetch('/gguf')).arrayBuffer(), { threads: 1 });
  const { ids } = await imported.chat([{ role: 'user', content: 'the' }], { temperature: 0, maxTokens: 4 }).result;
  return { text, completionTokens, crew, wasm, chatted: ids.length };
}

const send = report => fetch('/report', { method: 'POST', body: JSON.stringify(report) });
main().then(result => send({ result }), error => send({ error: { name: error.name, message: error.message, stack: error.stack } }));
