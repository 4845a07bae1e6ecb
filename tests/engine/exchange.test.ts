/** How long a member stays awake for values of another. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Exchanger } from '../../src/engine/exchange.js';
import { Collective } from '../../src/generated/layout.js';

const test = suite('exchange');
const fields = { collective: Collective.broadcast, values: 0, ld: 4, m: 2, begin: 0, end: 4, width: 4 };

/** An exchanger whose clock goes on by a sixteenth of a millisecond with each look; a look that finds something takes no time. */
function looking() {
  const memory = new WebAssembly.Memory({ initial: 1 }), peer = new Exchanger(new WebAssembly.Memory({ initial: 1 }));
  const port: ArrayBuffer[] = [], clock = { ms: 1000, looks: 0 }, { now } = performance;
  const exchanger = new Exchanger(memory, () => {
    clock.looks++;
    if (port.length === 0) clock.ms += 1 / 16;
    return port.shift();
  });
  for (const member of [exchanger, peer]) member.begin(1);
  /** Values that are there already, or are brought after so many milliseconds. @returns looks */
  const receive = async (late?: number): Promise<number> => {
    const buffer = peer.pack(1, fields, 0, 4);
    clock.looks = 0;
    performance.now = () => clock.ms;
    try {
      if (late === undefined) port.push(buffer);
      const received = exchanger.receive(1, fields);
      if (late !== undefined) {
        clock.ms += late;
        exchanger.deliver(buffer);
      }
      await received;
    } finally {
      performance.now = now;
    }
    return clock.looks;
  };
  return { receive };
}

test('one look, as long as nothing came in time; then looks for 0.2 ms', async () => {
  const { receive } = looking();
  assert.is(await receive(5), 1);
  for (let i = 0; i < 100; i++) assert.is(await receive(), 1);
  assert.is(await receive(0), 4);
});

test('late values are paid for as long as they took, but not for ever', async () => {
  const { receive } = looking();
  for (let i = 0; i < 100; i++) await receive();
  assert.is(await receive(5), 4); // worth 26 of 64
  assert.is(await receive(1000), 4);
  assert.is(await receive(0), 1);
  for (let i = 0; i < 64; i++) await receive();
  assert.is(await receive(0), 4);
});

test.run();
