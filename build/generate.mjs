/**
 * cpp/layout.json -> the same constants, enums and structs in C++, TypeScript and AssemblyScript.
 * Structs are laid out here, once: fields in order, each aligned to its size; TypeScript writes them, C++ reads them.
 */
import { mkdirSync, readFileSync, writeFileSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const layout = JSON.parse(readFileSync(join(root, 'cpp/layout.json'), 'utf8'));
const types = {
  u32: { size: 4, cpp: 'uint32_t', set: 'setUint32', ts: 'number' },
  f32: { size: 4, cpp: 'float', set: 'setFloat32', ts: 'number' },
  f64: { size: 8, cpp: 'double', set: 'setFloat64', ts: 'number' },
  u64: { size: 8, cpp: 'uint64_t', set: 'setBigUint64', ts: 'bigint' },
};
/** `T* name` is a pointer to constant T, `mut T* name` to one that is written through. */
function typeOf(type) {
  if (!type.endsWith('*')) return types[type] ?? fail(`unknown field type ${type}`);
  const target = type.slice(0, -1).replace('mut ', '');
  const cpp = types[target]?.cpp ?? (target === 'u8' ? 'uint8_t' : `struct ${target}`);
  return { size: 4, cpp: `${type.startsWith('mut ') ? '' : 'const '}${cpp}*`, set: 'setUint32', ts: 'number' };
}

function struct(fields) {
  let offset = 0, align = 1;
  const placed = fields.map(field => {
    const name = field.slice(field.lastIndexOf(' ') + 1);
    const type = typeOf(field.slice(0, field.lastIndexOf(' ')));
    const { size } = type;
    offset = Math.ceil(offset / size) * size;
    align = Math.max(align, size);
    const at = offset;
    offset += size;
    return { type, name, at };
  });
  return { fields: placed, size: Math.ceil(offset / align) * align };
}
function fail(message) { throw new Error(message); }

/** A number for each value of an enum, 0 where none is given. */
const tables = Object.entries(layout.tables).filter(([name]) => name !== 'comment')
  .map(([name, [of, values]]) => ({ name, of, values: layout.enums[of].map(key => [key, values[key] ?? 0]) }));
const structs = Object.entries(layout.structs).map(([name, fields]) => ({ name, ...struct(fields) }));
const header = '// Generated from cpp/layout.json by build/generate.mjs.\n';

const cpp = `${header}#pragma once
#include <stddef.h>
#include <stdint.h>

${Object.entries(layout.constants).map(([n, v]) => `constexpr uint32_t ${n} = ${v};`).join('\n')}

${Object.entries(layout.enums).map(([n, names]) => `enum class ${n} : uint32_t { ${names.join(', ')} };`).join('\n')}

${tables.map(t => `constexpr uint32_t ${t.name}[] = {${t.values.map(([, v]) => v).join(', ')}};  // by ${t.of}`).join('\n')}

${structs.map(s => `struct ${s.name} {\n${s.fields.map(f => `  ${f.type.cpp} ${f.name};`).join('\n')}\n};
static_assert(sizeof(${s.name}) == ${s.size});`).join('\n\n')}
`;

const ts = `${header}
${Object.entries(layout.constants).map(([n, v]) => `export const ${n} = ${v};`).join('\n')}

${Object.entries(layout.enums).map(([n, names]) => `export const ${n} = { ${names.map((v, i) => `${v}: ${i}`).join(', ')} } as const;`).join('\n')}

${tables.map(t => `export const ${t.name} = { ${t.values.map(([k, v]) => `${k}: ${v}`).join(', ')} } as const;`).join('\n')}

${structs.map(s => `export const sizeOf${s.name} = ${s.size};
export interface ${s.name}Fields { ${s.fields.map(f => `${f.name}: ${f.type.ts}`).join('; ')} }
export function write${s.name}(view: DataView, at: number, value: ${s.name}Fields): void {
${s.fields.map(f => `  view.${f.type.set}(at + ${f.at}, value.${f.name}, true);`).join('\n')}
}
export const read${s.name} = (view: DataView, at: number): ${s.name}Fields => ({
${s.fields.map(f => `  ${f.name}: view.${f.type.set.replace('set', 'get')}(at + ${f.at}, true),`).join('\n')}
});`).join('\n\n')}
`;

const as = `${header}
${Object.entries(layout.constants).map(([n, v]) => `export const ${n}: i32 = ${v};`).join('\n')}
${Object.entries(layout.enums).map(([n, names]) => names.map((v, i) => `export const ${n}_${v}: i32 = ${i};`).join('\n')).join('\n')}
${tables.map(t => `export const ${t.name}: usize = memory.data<i32>([${t.values.map(([, v]) => v).join(', ')}]);`).join('\n')}
`;

for (const [path, text] of [['cpp/generated/layout.h', cpp], ['src/generated/layout.ts', ts], ['assembly/generated/layout.ts', as]]) {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  if (!existsSync(file) || readFileSync(file, 'utf8') !== text) writeFileSync(file, text);
}
