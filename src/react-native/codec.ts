/** Messages as strings: what JSON lacks, and this package sends, is wrapped. */
const arrays = { Uint8Array, Float32Array, Float64Array } as const;
type ArrayName = keyof typeof arrays;

export function encode(message: unknown): string {
  return JSON.stringify(message, (_, value: unknown) => {
    if (typeof value === 'bigint') return { $bigint: String(value) };
    if (value === Infinity) return { $infinity: true };
    for (const name of Object.keys(arrays) as ArrayName[]) if (value instanceof arrays[name]) return { $array: name, values: [...value] };
    return value;
  });
}

export function decode(text: string): any {
  return JSON.parse(text, (_, value) => {
    if (typeof value?.$bigint === 'string') return BigInt(value.$bigint);
    if (value?.$infinity === true) return Infinity;
    const array = arrays[value?.$array as ArrayName];
    return array ? array.from(value.values) : value;
  });
}
