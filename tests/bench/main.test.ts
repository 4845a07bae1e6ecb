/** `npm run bench` as people mistype it. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bundleForNode } from '../../build/test.mjs';
import { repoRoot } from '../helpers/paths.js';

const test = suite('the benchmark\'s command line');

test('an option or a shape that there is not: what is wrong and where to look, no stack', async () => {
  await bundleForNode({ 'bench-mistyped': join(repoRoot, 'bench', 'main.ts') });
  for (const [args, problem] of [[['--bogus'], /--bogus/], [['2bit'], /2bit/], [['--shape', '9b'], /no shape 9b; there are .*1\.1b/]] as const) {
    const { status, stderr, stdout } = spawnSync(process.execPath, [join(repoRoot, 'dist-tests', 'bench-mistyped.js'), ...args], { encoding: 'utf8' });
    assert.is(status, 2, stderr);
    assert.match(stderr, problem);
    assert.match(stderr, '--help');
    assert.not.match(stderr, /^ +at /m);
    assert.is(stdout, '');
  }
});

test.run();
