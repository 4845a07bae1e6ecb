import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lutra, tinyFolder } from './lutra.js';

const test = suite('Ctrl-C');

test('run: ends the text, prints the summary, 130', async () => {
  const { folder, model } = tinyFolder({ contextLength: 100_000 });
  const { code, stdout, stderr } = await lutra(['run', model, '-t', '1', '-c', '100000', '--temp', '0', '-p', 'ab'], {
    during: child => child.stdout!.once('data', () => setTimeout(() => child.kill('SIGINT'), 100)),
  });
  rmSync(folder, { recursive: true });
  assert.is(code, 130, stderr);
  assert.match(stdout, /^ab/);
  assert.match(stderr, /\d+ tokens at/);
});

test('quantize: leaves nothing, 130', async () => {
  const { folder, model } = tinyFolder({ dim: 256, hiddenDim: 1024, nLayers: 4 });
  const output = join(folder, 'out');
  const isUnderWay = () => readdirSync(folder).some(name => name.endsWith('.tmp'));
  const { code, stdout } = await lutra(['quantize', model, '-o', output, '-t', '1', '--bits', '4'], {
    during(child) {
      const timer = setInterval(() => {
        if (!isUnderWay()) return;
        clearInterval(timer);
        child.kill('SIGINT');
      }, 5);
    },
  });
  const left = readdirSync(folder);
  rmSync(folder, { recursive: true });
  assert.is(code, 130);
  assert.is(stdout, '');
  assert.equal(left.sort(), ['model.bin', 'tokenizer.bin']);
});

test.run();
