// serial
// Aborted, disposed of, killed: while a model is downloaded, loaded, reads a prompt or writes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import { runOnServer } from '../helpers/elsewhere.js';
import { checkEnded, endAll, hubWith, placeKiller } from './ended.js';
import type { Hub } from '../helpers/hub.js';

const test = suite('ended at every stage');
const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
let hub: Hub;
test.before(async () => {
  hub = await hubWith(folder);
  placeKiller(join(folder, 'lutra'));
});
test.after(async () => {
  await hub.close();
  rmSync(folder, { recursive: true });
});

const expected = { threads: 2, rounds: 3, growth: 60e6 };
test('Node: a typed error at once, nothing after it, the memory given back', async () => {
  const base = `${hub.endpoint}/org/repo/resolve/main`;
  const args = { ...expected, slow: `${base}/slow.lutra.safetensors`, model: `${base}/big.lutra.safetensors` };
  const report = await runOnServer([process.execPath, '--expose-gc'], endAll, args, { entry: join(folder, 'lutra', 'index.js'), env: { LUTRA_CACHE: join(folder, 'cache') } });
  checkEnded(report, expected);
});

test.run();
