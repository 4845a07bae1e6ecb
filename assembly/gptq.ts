/**
 * Rows of GPTQ matrices as src/formats/gptq.ts puts them together: codes, their bits one after the other, lowest first; then
 * the groups' pairs f32[cols / group][2] = s, z. Each splits a row into codes u8[cols] and those pairs (see gguf.ts).
 */

// @ts-ignore: decorator
@inline
function split(bits: i32, src: usize, cols: i32, codes: usize, params: usize, group: i32): void {
  const mask: u64 = (1 << bits) - 1;
  // Eight codes fill `bits` bytes.
  for (let k = 0; k < cols; k += 8, src += bits) {
    let eight: u64 = 0;
    for (let i = 0; i < bits; i++) eight |= <u64>load<u8>(src + i) << (8 * i);
    for (let i = 0; i < 8; i++, codes++, eight >>= bits) store<u8>(codes, <u8>(eight & mask));
  }
  memory.copy(params, src, <usize>(cols / group) << 3);
}

export function splitGptq2(src: usize, cols: i32, codes: usize, params: usize, group: i32): void { split(2, src, cols, codes, params, group); }
export function splitGptq3(src: usize, cols: i32, codes: usize, params: usize, group: i32): void { split(3, src, cols, codes, params, group); }
export function splitGptq4(src: usize, cols: i32, codes: usize, params: usize, group: i32): void { split(4, src, cols, codes, params, group); }
export function splitGptq8(src: usize, cols: i32, codes: usize, params: usize, group: i32): void { split(8, src, cols, codes, params, group); }
