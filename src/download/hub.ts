/** `hf:ORG/REPO[@REVISION][/FILE]`: models on the Hugging Face hub, or on a server that speaks like it. */
import { BadArgumentError, DownloadError } from '../errors.js';
import { isObject } from '../formats/bytes.js';
import { get, readAll, type HttpOptions } from './http.js';

export interface HubName {
  repo: string;
  revision: string;
  file: string | undefined;
}

const LIST_LIMIT = 16 << 20;
const SPLIT = /-\d{5}-of-\d{5}\.gguf$/;

export const isHubName = (location: string): boolean => location.startsWith('hf:');

/** @throws BadArgumentError */
export function parseHubName(location: string): HubName {
  const [, repo, revision = 'main', file] = /^hf:([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w-][\w.-]*))?(?:\/(.+))?$/.exec(location) ?? [];
  const sound = repo && (file === undefined || file.split('/').every(step => /^[\w@+= -][\w.@+= -]*$/.test(step)));
  if (!sound) throw new BadArgumentError('source', `${JSON.stringify(location)} names nothing on the hub`, 'Write hf:ORG/REPO, hf:ORG/REPO/FILE or hf:ORG/REPO@REVISION/FILE.');
  return { repo, revision, file };
}

/** Address of the files of a repository, without a slash at the end. */
export function hubBase(endpoint: string, { repo, revision }: HubName): string {
  return `${endpoint.replace(/\/+$/, '')}/${repo}/resolve/${revision}`;
}

/** SHA-256 of a large file, as a hub lists it: browsers follow its redirects and hide what they say. Undefined where nobody knows. */
export async function listedChecksum(url: string, options: HttpOptions): Promise<string | undefined> {
  const [, origin, repo, revision, path] = /^(https?:\/\/[^/]+)\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/([^?]+)/.exec(url) ?? [];
  if (!path) return undefined;
  const file = decodeURIComponent(path), folder = path.slice(0, Math.max(0, path.lastIndexOf('/')));
  const files = await list(`${treeOf(origin!, repo!, revision!)}${folder && `/${folder}`}`, options).catch(error => {
    if (!(error instanceof DownloadError)) throw error; // else no hub
  });
  const found = files?.find(entry => isObject(entry) && entry.path === file), oid = isObject(found) && isObject(found.lfs) ? found.lfs.oid : undefined;
  return typeof oid === 'string' && /^[0-9a-f]{64}$/.test(oid) ? oid : undefined;
}

/** Where a hub lists the files of a revision. */
const treeOf = (endpoint: string, repo: string, revision: string) => `${endpoint.replace(/\/+$/, '')}/api/models/${repo}/tree/${revision}`;

async function list(url: string, options: HttpOptions): Promise<unknown[]> {
  let files: unknown;
  try {
    files = JSON.parse(new TextDecoder().decode(await get(url, {}, options, reply => readAll(url, reply, LIST_LIMIT))));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (!Array.isArray(files)) throw new DownloadError(url, 200, 'is no list of files', 'Check the name, and HF_ENDPOINT if it is set.');
  return files;
}

/**
 * What of a repository is a model: a file, or '' for all of it as a folder.
 * @throws BadArgumentError when there are several, DownloadError when there is none
 */
export async function findModel(endpoint: string, name: HubName, options: HttpOptions): Promise<string> {
  const url = treeOf(endpoint, name.repo, name.revision);
  const files = await list(url, options);
  const paths = files.flatMap(file => isObject(file) && file.type === 'file' && typeof file.path === 'string' ? [file.path] : []);
  const packed = paths.filter(path => path.endsWith('.lutra.safetensors'));
  // Of a split file the first part names the others.
  const gguf = paths.filter(path => path.endsWith('.gguf') && (!SPLIT.test(path) || path.includes('-00001-of-')));
  if (packed.length === 1) return packed[0]!;
  if (packed.length === 0) {
    if (paths.includes('config.json') && paths.some(path => path.endsWith('.safetensors'))) return '';
    if (gguf.length === 1) return gguf[0]!;
  }
  const several = [...packed, ...gguf];
  if (several.length === 0) throw new DownloadError(url, 200, 'holds no model that can be read', 'Packed models, GGUF files and safetensors with a config.json can be read.');
  throw new BadArgumentError('source', `hf:${name.repo} holds several models: ${several.slice(0, 20).join(', ')}`, `Name one: hf:${name.repo}/${several[0]}`);
}
