/** How the command line ends: exit codes, and errors as people read them. */
import { LutraError } from '../errors.js';

export const USAGE = 2;
export const INTERRUPTED = 130;

/** After sysexits.h where it has one. */
const codes: Record<string, number> = {
  BAD_ARGUMENT: USAGE,
  BAD_MODEL_FILE: 65,
  UNSUPPORTED_FORMAT: 65,
  FILE_ACCESS: 66,
  CHAT_TEMPLATE: 65,
  DOWNLOAD: 75,
  ENVIRONMENT: 69,
  OUT_OF_MEMORY: 71,
};

export function exitCode(error: unknown): number {
  return error instanceof LutraError ? codes[error.code] ?? 1 : 1;
}

export function describeError(error: unknown): string {
  if (process.env.LUTRA_DEBUG && error instanceof Error) return `${error.stack}\n`;
  if (error instanceof LutraError) return `error: ${error.message}\n${error.hint}\n`;
  return `error: ${error instanceof Error ? error.message : String(error)}\nSet LUTRA_DEBUG=1 to see where it happened, and please report it.\n`;
}
