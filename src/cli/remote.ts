/** Models on servers, for commands that read files themselves. */
import { hubOptions, openStore } from '../download/settings.js';
import { isRemote, RemoteModel } from '../download/download.js';
import { interrupt, progressBar } from './terminal.js';

/** Runs `work` on a location whose headers can be read; nothing large is fetched. */
export async function atHeaders<T>(location: string, work: (location: string) => Promise<T>): Promise<T> {
  return isRemote(location) ? new RemoteModel(location, { ...hubOptions(), signal: interrupt() }).inspect(work) : work(location);
}

/** The path of a model, downloaded if that is needed. */
export async function fetched(location: string): Promise<string> {
  if (!isRemote(location)) return location;
  const bar = progressBar();
  try {
    return await new RemoteModel(location, { ...hubOptions(), signal: interrupt() }).fetch(await openStore(), async () => {}, (loaded, total) => bar.update('downloading', loaded, total));
  } finally {
    bar.end();
  }
}
