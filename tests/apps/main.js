import { loadModel } from 'lutra';

async function main() {
  const model = await loadModel(await (await fetch('/model')).arrayBuffer(), { threads: 2 });
  const { text, completionTokens } = await model.generate('Once upon a time', { temperature: 0, maxTokens: 20 }).result;
  const { crew, wasm } = model.info();
  return { text, completionTokens, crew, wasm };
}

const send = report => fetch('/report', { method: 'POST', body: JSON.stringify(report) });
main().then(result => send({ result }), error => send({ error: { name: error.name, message: error.message, stack: error.stack } }));
