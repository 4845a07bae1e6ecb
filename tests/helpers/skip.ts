import type { Test } from 'uvu';

/** Registers a test that is not run, and says why: the runner counts it and shows the reason. */
export function skip(test: Test<any>, name: string, reason: string): void {
  test.skip(name, () => {});
  console.log(`SKIPPED ${name}: ${reason}`);
}
