/** What every reader must do with a file it cannot believe. */
import * as assert from 'uvu/assert';
import { BadModelFileError, FileAccessError, UnsupportedFormatError } from '../../src/errors.js';

/** Fails unless `read` rejects within 2 s of processor time with an error that names file, field and remedy. Returns it. */
export async function refused(read: () => Promise<unknown>, file: string, what: string): Promise<BadModelFileError | UnsupportedFormatError> {
  const begin = process.cpuUsage();
  let error: unknown;
  try {
    await read();
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof BadModelFileError || error instanceof UnsupportedFormatError, `${what}: ${error === undefined ? 'accepted' : `${(error as Error).stack}`}`);
  const typed = error as BadModelFileError;
  assert.ok(typed.path.includes(file) && typed.message.includes(file), `${what}: names the file: ${typed.message}`);
  assert.ok(typed.field && typed.hint, `${what}: names field and remedy`);
  const { user, system } = process.cpuUsage(begin);
  assert.ok(user + system < 2e6, `${what}: ${(user + system) / 1e6} s`);
  return typed;
}

/** The same where the culprit may be a file that is not there. */
export async function refusedOrMissing(read: () => Promise<unknown>, what: string): Promise<void> {
  try {
    await read();
  } catch (error) {
    assert.ok(error instanceof BadModelFileError || error instanceof UnsupportedFormatError || error instanceof FileAccessError, `${what}: ${(error as Error).stack}`);
    return;
  }
  assert.unreachable(`${what}: accepted`);
}
