/** The tokenizer of anything that has one, without the model around it. */
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { readBytes } from './bytes.js';
import { detect, type ImportOptions } from './detect.js';
import { openFile, openIfThere } from './files.js';
import { GGUF_MAGIC, readGguf } from './gguf.js';
import { readGgufTokenizer } from './gguf-tokenizer.js';
import { readPackedHeader } from './packed.js';

/** Of a model, packed or not, or of a GGUF file that holds nothing but a vocabulary. */
export async function openTokenizer(path: string, options: ImportOptions = {}): Promise<Tokenizer> {
  const vocabulary = await ggufVocabulary(path);
  if (vocabulary) return vocabulary;
  const found = await detect(path, options);
  if ('packed' in found) {
    const { packed } = found;
    try {
      const { config, tensors, dataOffset, chat } = await readPackedHeader(packed), { begin, end } = tensors.tokenizer!;
      return new Tokenizer(await readBytes(packed, dataOffset + begin, end - begin, 'tokenizer'), config, path, chat?.template);
    } finally {
      await packed.close();
    }
  }
  const { tokenizerJson, config, chat } = found.source;
  await found.source.close();
  return new Tokenizer(tokenizerJson, config, path, chat?.template);
}

async function ggufVocabulary(path: string): Promise<Tokenizer | undefined> {
  const folder = await openIfThere(`${path}/config.json`);
  await folder?.close();
  if (folder) return undefined;
  const file = await openFile(path);
  try {
    const head = new DataView((await readBytes(file, 0, Math.min(4, file.size), 'magic')).buffer);
    if (head.byteLength < 4 || head.getUint32(0, true) !== GGUF_MAGIC) return undefined;
    const { tokenizerJson, size, bosId, addBos, chat } = readGgufTokenizer((await readGguf(file)).metadata, path);
    return new Tokenizer(tokenizerJson, { vocabSize: size, bosId, addBos }, path, chat?.template);
  } finally {
    await file.close();
  }
}
