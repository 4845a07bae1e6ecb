/**
 * What few models need: chat templates, and everything that only models need which are not packed yet. Here they are bundled
 * with the rest (chats not where nothing asks for them, as in the command line); in worker.js, where they would be half of it,
 * apart.ts takes this file's place (build/bundle.mjs).
 */
import * as importing from './import.js';

export const chatPart = () => import('./chat.js');
export const importPart = async (): Promise<typeof importing> => importing;
