/** Bytes of tokens, one token at a time, to text that never splits a character. */
export class TextStream {
  readonly #bytes: (id: number) => Uint8Array | undefined;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #dropSpace: boolean;

  /**
   * @param bytes bytes of an id
   * @param dropSpace leave out one space in front of everything
   */
  constructor(bytes: (id: number) => Uint8Array | undefined, dropSpace: boolean) {
    this.#bytes = bytes;
    this.#dropSpace = dropSpace;
  }

  /** The characters that are complete now, perhaps none. */
  push(id: number): string {
    let bytes = this.#bytes(id);
    if (!bytes?.length) return '';
    if (this.#dropSpace && bytes[0] === 0x20) bytes = bytes.subarray(1);
    this.#dropSpace = false;
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** U+FFFD for a character that was never completed. */
  end(): string {
    return this.#decoder.decode();
  }
}
