/** What `run` and `chat` share of talking with a model. */
import type { Command } from 'commander';
import type { ChatMessage, Model } from '../index.js';
import { ChatTemplateError } from '../index.js';

export interface InstructOptions {
  /** Text; false: none at all. */
  system?: string | false;
}

export function addInstructOptions(command: Command): Command {
  return command
    .option('--system <text>', 'what the model is told before anything else (default: nothing, an empty message)')
    .option('--no-system', 'no such message: many templates then make up a persona');
}

/** The messages that a chat begins with. */
export async function opening(model: Model, system: string | false | undefined): Promise<ChatMessage[]> {
  if (system === false) return [];
  const messages = [{ role: 'system', content: system ?? '' }];
  if (system) return messages;
  try {
    await model.tokenizeChat([...messages, { role: 'user', content: '' }]);
    return messages;
  } catch (error) {
    // Not every template knows this role.
    if (error instanceof ChatTemplateError && model.info().chatTemplate) return [];
    throw error;
  }
}
