/**
 * src/ -> dist/*.js, by esbuild: the library, its workers, the parts of the runtime and the command line, each one file;
 * and the library with workers and wasm inside, as a module and as a script.
 */
import { chmodSync, existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { generate } from './generated.mjs';
import { BuildError, dist, files, ifMain, root, step, withBuildLock, writeWhole } from './util.mjs';

const readJson = path => JSON.parse(readFileSync(path, 'utf8'));

/** What every bundle of this repository is made with; tests and benchmarks too. */
export const common = {
  absWorkingDir: root,
  bundle: true,
  write: false,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  logLevel: 'silent',
  // Paths in tsconfig.json are for the type checker only.
  tsconfigRaw: '{}',
  define: { __LUTRA_VERSION__: JSON.stringify(readJson(join(root, 'package.json')).version) },
};

/** The same files run in Node, Deno, Bun and browsers: nothing of Node is imported but as `node:*`, when needed. */
const neutral = { platform: 'neutral', mainFields: ['module', 'main'], external: ['node:*'] };
/** The command line is for terminals; some of what it bundles is CommonJS and calls `require` for Node's own modules. */
const terminal = {
  platform: 'node', charset: 'ascii',
  banner: { js: '#!/usr/bin/env node\nimport { createRequire as createRequire_ } from \'node:module\';\nconst require = createRequire_(import.meta.url);' },
};

/** Instead of files beside it such a bundle holds the assets themselves. */
const inlined = {
  name: 'inlined',
  setup: ({ onResolve }) => onResolve({ filter: /\/beside\.js$/ }, () => ({ path: join(root, 'src', 'platform', 'inlined.ts') })),
};
/** The runtime's worker loads its parts (src/parts/) when it needs them. */
const apart = {
  name: 'apart',
  setup: ({ onResolve }) => onResolve({ filter: /\/parts\.js$/ }, () => ({ path: join(root, 'src', 'parts', 'apart.ts') })),
};
/** In a part: the modules of src/parts/shared.ts are what it is called with. */
const given = {
  name: 'given',
  setup({ onResolve, onLoad }) {
    const folder = join(root, 'src', 'parts'), imports = readFileSync(join(folder, 'shared.ts'), 'utf8').matchAll(/^import \* as (\w+) from '(.+)';$/gm);
    const names = new Map([...imports].map(([, name, path]) => [join(folder, path), name]));
    onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
      const full = join(resolveDir, path);
      if (names.has(full)) return { path: names.get(full), namespace: 'given' };
      return full.includes(join('src', 'platform')) ? { errors: [{ text: `${path} knows something: parts have it through src/parts/shared.ts` }] } : undefined;
    });
    onLoad({ filter: /^/, namespace: 'given' }, ({ path }) => ({ contents: `module.exports = shared.${path};` }));
  },
};
/** Classes keep their names, which consoles print before an error's own. */
const small = { ...neutral, plugins: [inlined], minify: true, keepNames: true };
/** Metro's own settings refuse some of what is newer. */
const forMetro = { ...small, target: 'es2021' };
/**
 * A worker is told where everything is. As a script it runs in every kind of page, and as a module as well. Its lines are not
 * endless: Node prints the line of an uncaught error.
 */
const worker = { ...small, keepNames: false, format: 'iife', lineLimit: 2000, charset: 'ascii' };
/** A part's file: a function that the worker calls (src/parts/apart.ts). */
const part = name => ({
  ...worker, plugins: [given], globalName: 'part',
  banner: { js: `(globalThis.lutraParts ??= {})['${name}.js'] = shared => {` }, footer: { js: 'return part; };' },
});
const noAssets = { __LUTRA_ASSETS__: '{}' };

/** What inline bundles hold: the quantiser is the command line's. */
const forRunning = name => !/quant/.test(name);

const bundles = [
  { entry: 'src/index.ts', out: 'index', options: { ...neutral, minify: true, keepNames: true, lineLimit: 2000 } },
  { entry: 'src/worker.ts', out: 'worker', options: { ...worker, plugins: [inlined, apart] } },
  { entry: 'src/parts/chat.ts', out: 'worker-chat', options: part('worker-chat') },
  { entry: 'src/parts/import.ts', out: 'worker-import', options: part('worker-import') },
  { entry: 'src/engine/crew-worker.ts', out: 'crew-worker', options: worker },
  { entry: 'src/pack/worker.ts', out: 'pack-worker', options: worker },
  { entry: 'src/quant/worker.ts', out: 'quant-worker', options: worker },
  { entry: 'src/cli/main.ts', out: 'cli', options: terminal },
  { entry: 'src/react-native/plain.ts', out: 'react-native.plain', options: forMetro },
  { entry: 'src/react-native/index.ts', out: 'react-native', options: { ...forMetro, external: ['react', 'react-native-webview'] }, define: webViewPage },
  { entry: 'src/index.ts', out: 'inline', options: small, assets: forRunning },
  { entry: 'src/index.ts', out: 'inline.script', options: { ...small, format: 'iife', globalName: 'lutra' }, assets: forRunning },
];

/** The page that the React Native component shows. WebViews are not isolated: they need no variant for shared memory. */
async function webViewPage(build) {
  const assets = JSON.stringify(await assetTable(build, name => forRunning(name) && !name.includes('shared')));
  const { outputFiles: [script] } = await build({ ...common, ...small, define: { ...common.define, __LUTRA_ASSETS__: assets }, format: 'iife', legalComments: 'none',
    outdir: 'dist', entryPoints: { page: 'src/react-native/page.ts' } }).catch(explain);
  const html = `<!doctype html><meta charset="utf-8"><title>Lutra</title><script>${script.text.replaceAll('</script', '<\\/script')}</script>`;
  return { __LUTRA_PAGE__: JSON.stringify(html) };
}

/** Every asset by its name, as src/platform/assets.ts reads it. */
async function assetTable(build, isWanted) {
  const { outputFiles } = await build({ ...common, ...small, keepNames: false, define: { ...common.define, ...noAssets }, format: 'iife', legalComments: 'none', outdir: 'dist',
    entryPoints: { 'worker': 'src/worker.ts', 'crew-worker': 'src/engine/crew-worker.ts', 'pack-worker': 'src/pack/worker.ts' } }).catch(explain);
  const entries = [
    ...outputFiles.map(({ path, contents }) => [basename(path), contents]),
    ...files(join(dist, 'wasm'), /\.wasm$/).map(path => [`wasm/${basename(path)}`, readFileSync(path)]),
  ];
  return Object.fromEntries(entries.filter(([name]) => isWanted(name)).map(([name, bytes]) => [name, `data:application/gzip;base64,${gzipSync(bytes, { level: 9 }).toString('base64')}`]));
}

export async function buildBundles({ force = false } = {}) {
  const { build, version } = await import('esbuild');
  const inputs = {
    texts: [version, ...bundles.map(one => one.entry)],
    paths: [...files(join(root, 'src'), /\.(ts|js|json)$/), join(root, 'build', 'bundle.mjs'), ...files(join(dist, 'wasm'), /\.wasm$/), join(root, 'package.json'), join(root, 'package-lock.json')],
  };
  await step('bundles', inputs, bundles.map(({ out }) => join(dist, `${out}.js`)), async () => {
    const packages = new Set();
    const sizes = [];
    for (const { entry, out, options, assets, define: more } of bundles) {
      const define = { ...common.define, ...assets ? { __LUTRA_ASSETS__: JSON.stringify(await assetTable(build, assets)) } : noAssets, ...await more?.(build) };
      const result = await build({ ...common, ...options, define, entryPoints: { [out]: entry }, outdir: 'dist', sourcemap: (!options.minify || options.lineLimit) && 'linked',
        // Lines stay: Node prints the line of an uncaught error, and that must not be the whole file.
        minifySyntax: true, legalComments: 'linked', metafile: true }).catch(explain);
      for (const file of result.outputFiles) writeIfChanged(file.path, file.path.endsWith('.js') ? withWholeUrls(file.text) : file.contents);
      if (out === 'cli') chmodSync(join(dist, 'cli.js'), 0o755);
      for (const input of Object.keys(result.metafile.inputs)) {
        const match = input.match(/^.*node_modules\/((?:@[^/]+\/)?[^/]+)\//);
        if (match) packages.add(match[0]);
      }
      sizes.push(`${out}.js ${Math.round(result.outputFiles.find(file => file.path.endsWith('.js')).contents.length / 1024)} kB`);
    }
    writeIfChanged(join(dist, 'THIRD-PARTY-LICENSES.txt'), Buffer.from(licences(packages)));
    return sizes.join(', ');
  }, { force });
}

/** Bundlers find files by `new URL("…", import.meta.url)`, Vite by a pattern: a line that esbuild has broken inside of it is broken behind it. */
const withWholeUrls = text => text.replace(/import\s*\.\s*meta\s*\.\s*url\)/g, url => /\s/.test(url) ? `${url.replace(/\s/g, '')}\n` : url);

/** esbuild's messages, with the lines that they are about, as one error. */
export async function explain(error) {
  if (!error.errors) throw error;
  const { formatMessages } = await import('esbuild');
  throw new BuildError((await formatMessages(error.errors, { kind: 'error' })).join('\n'));
}

/** The licence texts of all packages whose code is inside the bundles. */
function licences(folders) {
  const texts = [...folders].sort().map(folder => {
    const { name, version, license } = readJson(join(root, folder, 'package.json'));
    const file = readdirSync(join(root, folder)).find(entry => /^licen[cs]e/i.test(entry));
    if (!file) throw new BuildError(`${name} is bundled but has no licence file to ship.`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(root, folder, file), 'utf8').trim()}\n`;
  });
  return `The JavaScript files of this folder contain code of these packages.\n\n${texts.join(`\n${'-'.repeat(80)}\n\n`)}`;
}

/** Leaves equal files alone, so that programs that are running from them see no half of one. */
export function writeIfChanged(path, contents) {
  if (!existsSync(path) || !readFileSync(path).equals(Buffer.from(contents))) writeWhole(path, contents);
}

await ifMain(import.meta, () => withBuildLock(async () => {
  await generate();
  await buildBundles();
}));
