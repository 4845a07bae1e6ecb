/**
 * What parts that are scripts of their own have from the worker, instead of copies: modules that know something (openers of
 * files, the package's assets, workers that are leaving), and the classes of errors. All else they use is in both.
 */
import * as errors from '../errors.js';
import * as files from '../formats/files.js';
import * as builtin from '../platform/builtin.js';
import * as platform from '../platform/platform.js';

export const shared = { errors, files, builtin, platform };
