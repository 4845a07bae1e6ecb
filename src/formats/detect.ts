/** A path -> what lies there. */
import { BadModelFileError, FileAccessError, UnsupportedFormatError } from '../errors.js';
import { importPart } from '../parts/parts.js';
import { readBytes } from './bytes.js';
import { openFile, openIfThere } from './files.js';
import { GGUF_MAGIC } from './gguf.js';
import { LLAMA2C_MAGIC } from './llama2c.js';
import { isPacked } from './packed.js';
import { readSafetensorsHeader } from './safetensors.js';
import { INDEX_NAME, openPackedShards } from './shards.js';
import type { SourceModel } from './source.js';
import type { ByteSource } from './types.js';

/** A packed model (open, its header not yet checked), or a model to import. */
export type Detected = { packed: ByteSource } | { source: SourceModel };

export interface ImportOptions {
  /** Tokenizer file, where it is not the one beside the model. */
  tokenizer?: string;
}

/** Opens a model file, the folder of a Hugging Face model, or that of a packed model in shards. */
export async function detect(path: string, { tokenizer }: ImportOptions = {}): Promise<Detected> {
  const config = await openIfThere(`${path}/config.json`);
  if (config) {
    await config.close();
    const { importHuggingFace } = await importPart();
    return { source: await importHuggingFace(path, tokenizer) };
  }
  const index = await openIfThere(`${path}/${INDEX_NAME}`);
  if (index) return { packed: await openPackedShards(path, index) };
  return detectFile(await openFile(path), vocabSize => tokenizer === undefined ? besideModel(path, vocabSize) : openFile(tokenizer));
}

/** A file that is open; this closes it when it rejects. `openTokenizer`: for formats that keep it apart. */
export async function detectFile(file: ByteSource, openTokenizer: (vocabSize: number) => Promise<ByteSource>): Promise<Detected> {
  try {
    const kind = await kindOf(file);
    if (kind === 'packed') return { packed: file };
    const { importGguf, importLlama2c } = await importPart();
    return { source: await (kind === 'gguf' ? importGguf(file) : importLlama2c(file, openTokenizer)) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function kindOf(file: ByteSource): Promise<'packed' | 'gguf' | 'llama2c'> {
  const head = await readBytes(file, 0, Math.min(28, file.size), 'magic');
  const view = new DataView(head.buffer);
  if (head.length >= 4 && view.getUint32(0, true) === GGUF_MAGIC) return 'gguf';
  // Safetensors: a header below 4 GiB that begins with a brace.
  if (head.length > 8 && head[8] === 0x7b && view.getUint32(4, true) === 0) {
    if (isPacked((await readSafetensorsHeader(file)).metadata)) return 'packed';
    throw new UnsupportedFormatError(file.name, '__metadata__.format', 'weights without a configuration', 'Give the folder that holds config.json, tokenizer.json and this file.');
  }
  if (head.length >= 4 && view.getUint32(0, true) === LLAMA2C_MAGIC) return 'llama2c';
  // llama2.c's version 0 has no magic: seven numbers that can be sizes.
  const sizes = head.length === 28 ? Array.from({ length: 7 }, (_, i) => Math.abs(view.getInt32(4 * i, true))) : [];
  if (sizes.length === 7 && sizes.every(size => size > 0 && size < 2 ** 24)) return 'llama2c';
  throw new BadModelFileError(file.name, 'magic', 'is no model file of a known kind',
    'Known are packed models, GGUF files, llama2.c checkpoints, and folders of Hugging Face models.');
}

/** llama2.c's tools name a tokenizer after its size, or not at all. */
async function besideModel(path: string, vocabSize: number): Promise<ByteSource> {
  const folder = path.slice(0, Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
  const names = [`tok${vocabSize}.bin`, 'tokenizer.bin'];
  for (const name of names) {
    const found = await openIfThere(folder + name);
    if (found) return found;
  }
  throw new FileAccessError(folder + names[0], `no tokenizer beside the model (looked for ${names.join(' and ')})`, 'Give it with `--tokenizer FILE`.');
}
