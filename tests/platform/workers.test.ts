import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineCrashError, EnvironmentError } from '../../src/errors.js';
import { useAssets } from '../../src/platform/assets.js';
import { spawn } from '../../src/platform/platform.js';

const test = suite('workers');
const scripted = (script: string) => useAssets({ 'worker.js': `data:text/javascript,${encodeURIComponent(script)}` });
const alive = 'import { parentPort } from "node:worker_threads"; parentPort.postMessage("lutra: a worker runs");';

test('one that does not start is an error with a reason, in time', async () => {
  for (const [script, reason, deadline] of [
    ['setTimeout(() => {}, 60_000)', /not running after 0.2 s/, 200], ['throw new Error("bad luck")', /bad luck/, 20_000], ['}', /Unexpected token/, 20_000], ['process.exit(3)', /code 3/, 20_000],
  ] as const) {
    scripted(script);
    const error = await spawn('worker.js', null, { deadline }).catch(error => error);
    assert.instance(error, EnvironmentError);
    assert.match(error.message, reason);
  }
});

test('it gets the assets and what it is for; messages go both ways', async () => {
  scripted(`${alive} parentPort.on("message", message => parentPort.postMessage(message.init ? { init: message.init, assets: message.assets } : message));`);
  const worker = await spawn('worker.js', { role: 'echo' });
  const heard: any[] = [];
  await new Promise<void>(resolve => {
    worker.onMessage(message => { if (heard.push(message) === 2) resolve(); });
    worker.post('more');
  });
  assert.equal(heard[0].init, { role: 'echo' });
  assert.equal(Object.keys(heard[0].assets), ['worker.js']);
  assert.is(heard[1], 'more');
  await worker.terminate();
});

test('death is reported once, unless it was asked for', async () => {
  scripted(`${alive} parentPort.on("message", message => { if (message === "die") throw new Error("dead"); });`);
  const deaths: unknown[] = [];
  const [one, other] = [await spawn('worker.js', null), await spawn('worker.js', null)];
  for (const worker of [one, other]) worker.onCrash(error => deaths.push(error));
  await other.terminate();
  one.post('die');
  while (deaths.length === 0) await new Promise(resolve => setTimeout(resolve, 10));
  await one.terminate();
  assert.is(deaths.length, 1);
  assert.instance(deaths[0], EngineCrashError);
  assert.match((deaths[0] as Error).message, 'dead');
});

test('another thread learns of its end while the parent hears nothing', async () => {
  scripted(`${alive} parentPort.on("message", message => { globalThis.kept ??= message; });`);
  const worker = await spawn('worker.js', null), lifeline = worker.lifeline as MessagePort;
  const watcher = new Worker('const { parentPort } = require("node:worker_threads"); parentPort.once("message", port => { port.addEventListener("close", () => parentPort.postMessage("ended")); parentPort.postMessage("watching"); setInterval(() => {}, 1000); });', { eval: true });
  watcher.postMessage(lifeline, [lifeline as never]);
  assert.is((await once(watcher, 'message'))[0], 'watching');
  void worker.terminate();
  assert.is((await once(watcher, 'message'))[0], 'ended');
  await watcher.terminate();
});

test.run();
