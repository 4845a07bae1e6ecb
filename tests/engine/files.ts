/** Models with random weights as packed files, with a tokenizer that works. */
import { extrasOf, planPacked } from '../../src/formats/packed.js';
import { PackedWriter } from '../../src/formats/packed-writer.js';
import type { ByteSource, PackedHeader } from '../../src/formats/types.js';
import { fileSink } from '../../src/platform/platform.js';

const CHUNK = 16 << 20;

/** BPE over the small letters: all pairs, all triples, and of longer pieces as many as there are ids. */
function tokenizerJson(vocabSize: number): Uint8Array {
  const letters = [...'abcdefghijklmnopqrstuvwxyz'], special = ['<unk>', '<s>', '</s>'];
  const pieces = [...letters];
  for (let i = 0; special.length + pieces.length < vocabSize; i++) pieces.push(pieces[Math.floor(i / letters.length)]! + letters[i % letters.length]!);
  return new TextEncoder().encode(JSON.stringify({
    version: '1.0', added_tokens: special.map((content, id) => ({ id, content, special: true })), normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null,
    model: {
      type: 'BPE', unk_token: '<unk>', vocab: Object.fromEntries([...special, ...pieces].map((piece, id) => [piece, id])),
      merges: pieces.slice(letters.length).map(piece => `${piece.slice(0, -1)} ${piece.at(-1)}`),
    },
  }));
}

export async function writePacked(path: string, { header, source }: { header: PackedHeader; source: ByteSource }): Promise<void> {
  const { config, linears, tensors } = header, tokenizer = tokenizerJson(config.vocabSize);
  const plan = planPacked(config, extrasOf(name => name in tensors), tokenizer.length, ({ name }) => linears[name]!.parts[0]!);
  const writer = await PackedWriter.begin(await fileSink(path), config, plan, {});
  await writer.writePadded('tokenizer', tokenizer, 0x20);
  for (const [name, { begin, end }] of plan.tensors) {
    for (let at = begin; at < end && name !== 'tokenizer'; at += CHUNK) {
      const bytes = new Uint8Array(Math.min(CHUNK, end - at));
      await source.read(bytes, at); // the tokenizer comes last: everything else lies where it lay
      await writer.write(name, bytes, at - begin);
    }
  }
  await writer.finish();
}
