/** Errors as plain objects that survive a message channel, and back as what they were. */
import { EngineCrashError, errorClasses, LutraError } from '../errors.js';

export interface WireError {
  message: string;
  stack?: string | undefined;
  /** Everything else the error carries: name, code, hint and the fields of its class. */
  fields: Record<string, unknown>;
  cause?: WireError | undefined;
}

/** What is no error of this package, and no abort, is a defect or a trap: it leaves as an `EngineCrashError`. */
export function toWire(error: unknown, operation: string): WireError {
  if (error instanceof LutraError) return describe(error);
  if (error instanceof Error && error.name === 'AbortError') return describe(error);
  return describe(new EngineCrashError(operation, error));
}

function describe(error: Error): WireError {
  const { message, stack, cause } = error;
  const fields: Record<string, unknown> = { name: error.name };
  for (const [key, value] of Object.entries(error)) {
    if (key !== 'cause' && ['string', 'number', 'bigint', 'boolean'].includes(typeof value)) fields[key] = value;
  }
  return { message, stack, fields, cause: cause instanceof Error ? describe(cause) : undefined };
}

export function fromWire(wire: WireError): Error {
  const error = new Error(wire.message, wire.cause ? { cause: fromWire(wire.cause) } : undefined);
  const kind = errorClasses[wire.fields.code as string];
  if (kind) Object.setPrototypeOf(error, kind.prototype);
  Object.assign(error, wire.fields);
  if (wire.stack) error.stack = wire.stack;
  return error;
}
