/** The command line. */
import { Command, CommanderError } from 'commander';
import { cacheCommand } from './cache.js';
import { chatCommand } from './chat.js';
import { doctorCommand } from './doctor.js';
import { evalCommand } from './eval.js';
import { describeError, exitCode, INTERRUPTED, USAGE } from './exit.js';
import { exportCommand } from './export.js';
import { inspectCommand } from './inspect.js';
import { quantizeCommand } from './quantize.js';
import { runCommand } from './run.js';
import { interrupt } from './terminal.js';
import { tokenizeCommand } from './tokenize.js';

const program = new Command('lutra')
  .description('Runs 2-bit and ternary language models on any CPU.')
  .version(__LUTRA_VERSION__, '-V, --version')
  .addHelpText('after', '\nExample:\n  lutra run -p "Once upon a time"');

for (const command of [runCommand(), chatCommand(), quantizeCommand(), evalCommand(), exportCommand(), inspectCommand(), tokenizeCommand(), cacheCommand(), doctorCommand()]) {
  command.exitOverride().showHelpAfterError(`lutra ${command.name()} --help lists the options.`);
  program.addCommand(command);
}

// A reader that has seen enough (head, less) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  throw error;
});

try {
  await program.exitOverride().parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE;
  } else if (interrupt().aborted) {
    process.exitCode = INTERRUPTED;
  } else {
    process.stderr.write(describeError(error));
    process.exitCode = exitCode(error);
  }
}
