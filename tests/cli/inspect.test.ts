/** The memory that `lutra inspect` names, against that of an engine. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Needs } from '../../src/cli/inspect.js';
import { createEngine } from '../../src/engine/engine.js';
import { openForEngine } from '../../src/runtime/source.js';
import { ggufFile, tinyParts, wide } from '../formats/gguf-file.js';
import { repoRoot } from '../helpers/paths.js';
import { lutra } from './lutra.js';

const test = suite('inspect');
const folder = mkdtempSync(join(tmpdir(), 'lutra-inspect-'));
test.after(() => rmSync(folder, { recursive: true }));

const files = [join(repoRoot, 'models', 'stories.lutra.safetensors'), ...['Q4_0', 'Q6_K', 'F16'].map(type => {
  const path = join(folder, `${type}.gguf`);
  writeFileSync(path, ggufFile(tinyParts(type, wide, { embedding: 'Q8_0' })));
  return path;
})];
for (const path of files) {
  test(`${path.replace(/.*\//, '')}: the memory that an engine takes`, async () => {
    const { stdout } = await lutra(['inspect', path, '--json']), { weights, workspace, kvPerSession, context, total }: Needs = JSON.parse(stdout).memory;
    const { source, header } = await openForEngine(path, {});
    const engine = await createEngine(source, header, { threads: 2, crew: 'auto', variant: 'auto', context, reference: false, maxSessions: 2 });
    try {
      engine.openSession();
      assert.equal({ weights, workspace, kvPerSession }, engine.info.memoryBytes);
      assert.is(total, engine.memory.buffer.byteLength);
    } finally {
      await engine.dispose();
      await source.close();
    }
  });
}

test.run();
