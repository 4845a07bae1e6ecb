/** Every failure of this package is one of these: a stable `code` (BAD_MODEL_FILE: a BadModelFileError), a message that names the culprit, a `hint` that says what to do next. */
export class LutraError extends Error {
  readonly code: string;
  readonly hint: string;
  constructor(code: string, message: string, hint: string, options?: ErrorOptions) {
    super(message, options);
    // Not the class's own name, which a bundle may have shortened.
    this.name = `${code.toLowerCase().replace(/(?:^|_)(.)/g, (_, first: string) => first.toUpperCase())}Error`;
    this.code = code;
    this.hint = hint;
  }
}

/** What comes from a file may be of any length; a message is not. */
const short = (text: string, most: number) => text.length > most ? `${text.slice(0, most)}…` : text;
const FIELD = 200, PROBLEM = 500;

/** The bytes are not a sound model file. `field` says where the reader stopped believing them. */
export class BadModelFileError extends LutraError {
  readonly field: string;
  constructor(readonly path: string, field: string, problem: string,
    hint = 'The file is damaged or incomplete: download or pack it again.') {
    super('BAD_MODEL_FILE', `${path}: ${short(field, FIELD)}: ${short(problem, PROBLEM)}`, hint);
    this.field = short(field, FIELD);
  }
}

/** A sound file of a kind this version cannot run. */
export class UnsupportedFormatError extends LutraError {
  readonly field: string;
  constructor(readonly path: string, field: string, problem: string, hint: string) {
    super('UNSUPPORTED_FORMAT', `${path}: ${short(field, FIELD)}: ${short(problem, PROBLEM)}`, hint);
    this.field = short(field, FIELD);
  }
}

/** An option or argument out of its range. */
export class BadArgumentError extends LutraError {
  constructor(readonly argument: string, problem: string, hint = 'See the documentation of this option for its range.') {
    super('BAD_ARGUMENT', `${argument}: ${problem}`, hint);
  }
}

/** A file or folder that is not there, or cannot be read or written. */
export class FileAccessError extends LutraError {
  constructor(readonly path: string, problem: string, hint: string, options?: ErrorOptions) {
    super('FILE_ACCESS', `${path}: ${problem}`, hint, options);
  }
}

/** A file that could not be fetched, or is not what it should be. */
export class DownloadError extends LutraError {
  /** Another attempt may succeed, after so many milliseconds if the server says so. */
  readonly transient: boolean;
  readonly retryAfter: number | undefined;
  /** What has arrived is not to be kept. */
  readonly wrong: boolean;
  /** @param status of HTTP; 0 where there was no answer */
  constructor(readonly url: string, readonly status: number, problem: string, hint: string,
    { transient = false, retryAfter, wrong = false, ...options }: ErrorOptions & { transient?: boolean; retryAfter?: number; wrong?: boolean } = {}) {
    super('DOWNLOAD', `${url}: ${problem}`, hint, options);
    this.transient = transient;
    this.retryAfter = retryAfter;
    this.wrong = wrong;
  }
}

/** More memory is needed than 32-bit WebAssembly or the machine gives. Sizes in bytes. */
export class OutOfMemoryError extends LutraError {
  constructor(readonly needed: number, readonly available: number, hint: string) {
    super('OUT_OF_MEMORY', `needs ${needed} bytes of memory, ${available} can be had`, hint);
  }
}

/** Prompt and answer do not fit into the context. Counts in tokens. */
export class ContextFullError extends LutraError {
  constructor(readonly used: number, readonly limit: number) {
    super('CONTEXT_FULL', `${used} tokens do not fit into a context of ${limit}`,
      'Shorten the prompt, or load the model with a larger `context` if it was trained for one; a chat can drop its oldest turns (`overflow`).');
  }
}

/** A model's chat template that is missing, wrong, or does not take these messages. */
export class ChatTemplateError extends LutraError {
  constructor(readonly path: string, problem: string, hint: string) {
    super('CHAT_TEMPLATE', `${path}: ${problem}`, hint);
  }
}

/** The engine died under a call: a trap, or a worker that went away. Load the model again. */
export class EngineCrashError extends LutraError {
  constructor(readonly operation: string, cause?: unknown) {
    super('ENGINE_CRASH', `the engine stopped during ${operation}: ${cause instanceof Error ? cause.message : String(cause ?? 'no reason given')}`,
      'Load the model again. If it happens twice with the same input, please report it.', { cause });
  }
}

/** Use of a model or session after `dispose()`. */
export class DisposedError extends LutraError {
  constructor(what: string) {
    super('DISPOSED', `this ${what} was disposed`, `Create a new ${what}.`);
  }
}

/** This JavaScript engine lacks something that is needed. */
export class EnvironmentError extends LutraError {
  constructor(missing: string, hint: string) {
    super('ENVIRONMENT', `missing: ${missing}`, hint);
  }
}

/** By code: how an error that crossed a worker's border finds its class again. */
export const errorClasses: Readonly<Record<string, { prototype: LutraError }>> = {
  BAD_MODEL_FILE: BadModelFileError,
  UNSUPPORTED_FORMAT: UnsupportedFormatError,
  BAD_ARGUMENT: BadArgumentError,
  FILE_ACCESS: FileAccessError,
  OUT_OF_MEMORY: OutOfMemoryError,
  CONTEXT_FULL: ContextFullError,
  CHAT_TEMPLATE: ChatTemplateError,
  DOWNLOAD: DownloadError,
  ENGINE_CRASH: EngineCrashError,
  DISPOSED: DisposedError,
  ENVIRONMENT: EnvironmentError,
};
