/** `npm run bench`: what Lutra does here, and what others do beside it in the same run. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem, type } from 'node:os';
import { parseArgs } from 'node:util';
import { hasRelaxedSimd } from '../src/engine/instance.js';
import type { EngineOptions } from '../src/engine/types.js';
import { reasonOf, type Absent, type Contestant } from './contestant.js';
import { race, type EndToEnd } from './end-to-end.js';
import { benchKernels } from './kernels.js';
import { benchLoads, loadTable, loadTypes } from './load.js';
import { Lutra } from './lutra.js';
import { fileModel, syntheticModel, type BenchModel } from './models.js';
import { pageOf } from './page.js';
import { depthTable, describeMachine, endToEndTable, kernelTable, noise, threadsOf, type Depth, type Report } from './report.js';
import { Roof, isRoofWorker, serveRoof } from './roof.js';
import { shapes } from './shapes.js';
import { present, type Rounds } from './stats.js';

const help = `npm run bench [-- options]

What is measured
  (nothing)        prefill and decode of a whole model
  --peers          beside it llama.cpp (native) and wllama (2.3.1 and current) on GGUF files of the same shape; with
                   --kernels onnxruntime-web's MatMulNBits. Installs them into bench/peers on first use
  --depth LIST     decode behind so many tokens                      e.g. 0,512,2048,4096
  --kernels        every kernel, layer by layer
  --load           loading, packed and from GGUF files: seconds in a fresh process beside a plain read; --only WORDS: types
  --crews          workers with memories of their own, --threads of them: Node without SharedArrayBuffer, Chromium without isolation
  --only WORDS     contestants, or kernels, whose name has one of the words, e.g. lutra,native

Of what
  --shape NAME     ${Object.keys(shapes).join(', ')}, random weights             (1.1b)
  --bits N         1, 2, 3, 4, 8, ternary                            (2)
  --group N        32, 64, 128                                       (128; 64 with 4 bits)
  --kv TYPE        f32, int8: how Lutra keeps keys and values        (as in the engine)
  --head N         bits of Lutra's output matrix: 4, 8; the peers' has Q6_K (8)
  --model FILE     this model instead: packed, or GGUF, which the peers run too

How
  --threads LIST   thread counts                                     (1,2)
  --rounds N       repetitions, interleaved                          (7)
  --minutes N      no new round after that; slow peers sit some out  (8)
  --prompt N       tokens of the prompt                              (32)
  --generate N     tokens generated                                  (16)
  --variant V      simd, relaxed, auto                               (auto)
  --node N         run under Node N: 20, 22, 24, 26
  --keep           keep the random GGUF files in the system's temporary folder

What becomes of it
  --json           one JSON object on stdout instead of tables
  --save FILE      that object to a file as well, after every part
  --from FILE      adds what a file of --save holds; may be repeated; with --html and nothing else, measures nothing
  --html FILE      one page with plots

Example: npm run bench -- --peers --shape 134m --bits ternary --html bench.html`;

const { values } = parsed({
  peers: { type: 'boolean', default: false }, depth: { type: 'string' }, kernels: { type: 'boolean', default: false }, load: { type: 'boolean', default: false }, crews: { type: 'boolean', default: false }, only: { type: 'string', default: '' },
  shape: { type: 'string', default: '1.1b' }, bits: { type: 'string', default: '2' }, group: { type: 'string' }, head: { type: 'string', default: '8' }, kv: { type: 'string' }, model: { type: 'string' },
  threads: { type: 'string', default: '1,2' }, rounds: { type: 'string', default: '7' }, minutes: { type: 'string', default: '8' },
  prompt: { type: 'string', default: '32' }, generate: { type: 'string', default: '16' }, variant: { type: 'string', default: 'auto' },
  keep: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, save: { type: 'string' }, from: { type: 'string', multiple: true, default: [] },
  html: { type: 'string' }, help: { type: 'boolean', default: false },
});
function parsed<T extends NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>>(options: T) {
  try {
    return parseArgs({ options });
  } catch (error) {
    return misused((error as Error).message);
  }
}
function misused(problem: string): never {
  console.error(`${problem}\n\`npm run bench -- --help\` lists what there is.`);
  process.exit(2);
}
const words = values.only.toLowerCase().split(',').filter(Boolean);
const counts = values.threads.split(',').map(Number), most = Math.max(...counts);
const variant = values.variant as EngineOptions['variant'];
const kv = values.kv === undefined ? {} : { kvType: values.kv as 'f32' | 'int8' };
const interrupt = new AbortController();

const progress = (text: string) => { if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`); };
const say = (text: string) => console.error(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${text}`);

async function measureEndToEnd(model: BenchModel, report: Report): Promise<EndToEnd> {
  const prompt = Number(values.prompt), generated = Number(values.generate), context = Math.max(512, prompt + generated + 16);
  const contestants: Contestant[] = [], absent: Absent[] = [], closers: (() => Promise<void>)[] = [];
  const wanted = (name: string) => words.length === 0 || words.some(word => name.toLowerCase().includes(word));
  const add = async (name: string, open: () => Promise<Contestant | Contestant[]>) => {
    if (!wanted(name) || interrupt.signal.aborted) return;
    progress(`starting ${name}`);
    try {
      contestants.push(...[await open()].flat());
    } catch (error) {
      absent.push({ name, reason: reasonOf(error) });
    }
  };
  const roof = await Roof.start(most);
  try {
    for (const threads of counts) {
      await add('Lutra', async () => {
        const lutra = await Lutra.open(model.source, model.header, { threads, variant, context, model: model.format, ...kv });
        report.machine.wasm = lutra.info.wasm.replace('-shared', '');
        return lutra;
      });
    }
    if (values.peers) await addPeers(model, context, report, add, wanted, absent, closers);
    say(`${model.name}: ${contestants.length} contestants`);
    const result = await race(contestants, roof, { prompt, generated, rounds: Number(values.rounds), minutes: Number(values.minutes), signal: interrupt.signal, onRound: progress });
    return { model: model.name, weights: model.weights, prompt, generated, ...result, absent: [...absent, ...result.absent] };
  } finally {
    for (const { close } of [...contestants.map(one => ({ close: () => one.close() })), ...closers.map(close => ({ close }))]) await close().catch(() => {});
    await roof.stop();
  }
}

type Add = (name: string, open: () => Promise<Contestant | Contestant[]>) => Promise<void>;

async function addPeers(model: BenchModel, context: number, report: Report, add: Add, wanted: (name: string) => boolean, absent: Absent[], closers: (() => Promise<void>)[]): Promise<void> {
  const { installPeers } = await import('./peers/install.js'), { openNative } = await import('./peers/native.js');
  const { startBrowser, versions } = await import('./peers/wllama.js');
  const everyPeer = ['llama.cpp native', ...versions.map(version => `wllama ${version}`)].filter(wanted);
  let gguf: Awaited<ReturnType<NonNullable<BenchModel['gguf']>>>;
  try {
    if (!model.gguf) throw new Error('they have nothing that corresponds to this model; give a GGUF file, or 2, 3, 4, 8 bits or ternary');
    await installPeers();
    progress('writing the GGUF file');
    gguf = await model.gguf();
  } catch (error) {
    absent.push(...everyPeer.map(name => ({ name, reason: reasonOf(error) })));
    return;
  }
  const { paths, format, bytes } = gguf;
  await add('llama.cpp native', () => openNative(paths[0]!, format, bytes, counts, context));
  if (!versions.some(version => wanted(`wllama ${version}`))) return;
  try {
    const browser = await startBrowser();
    closers.push(browser.close);
    report.machine.browser = browser.version;
    for (const version of versions) {
      for (const threads of counts) await add(`wllama ${version}, ${threadsOf({ threads })}`, () => browser.openWllama(version, paths, format, bytes, threads, context));
    }
  } catch (error) {
    absent.push(...versions.map(version => ({ name: `wllama ${version}`, reason: reasonOf(error) })));
  }
}

async function measureDepth(model: BenchModel, depths: number[]): Promise<Depth> {
  const generated = Number(values.generate), sorted = [...depths].sort((a, b) => a - b);
  const lutra = await Lutra.open(model.source, model.header, { threads: most, variant, context: sorted.at(-1)! + generated, model: model.format, ...kv });
  try {
    const rates: Rounds[] = sorted.map(() => []);
    for (let round = 0; round < Number(values.rounds) && !interrupt.signal.aborted; round++) {
      for (const [i, depth] of sorted.entries()) {
        progress(`round ${round + 1} of ${values.rounds}: depth ${depth}`);
        rates[i]!.push(await lutra.measureAt(depth, generated));
      }
    }
    return { model: `${model.name}, ${model.format}`, threads: most, depths: sorted, rates };
  } finally {
    await lutra.close();
  }
}

async function measureKernels(report: Report): Promise<void> {
  const roof = await Roof.start(1);
  try {
    report.roof = await roof.measure(1);
    const chosen = variant === 'auto' ? hasRelaxedSimd() ? 'relaxed' : 'simd' : variant;
    report.machine.wasm = chosen;
    report.kernels.push(...await benchKernels(chosen, words, roof, row => progress(`${row.kernel} ${row.rows} x ${row.cols}`)));
  } finally {
    await roof.stop();
  }
  if (!values.peers) return;
  const { installPeers } = await import('./peers/install.js'), { benchOnnx } = await import('./peers/onnx.js');
  try {
    await installPeers();
    report.kernels.push(...await benchOnnx());
  } catch (error) {
    say(`Not measured: onnxruntime-web: ${reasonOf(error)}`);
  }
}

async function main(): Promise<void> {
  if (values.help) return console.log(help);
  const shape = shapes[values.shape];
  if (!shape) return misused(`There is no shape ${values.shape}; there are ${Object.keys(shapes).join(', ')}.`);
  if (values.load) return console.log(loadTable(await benchLoads(shape, loadTypes.filter(type => words.length === 0 || words.includes(type.toLowerCase())), Number(values.rounds), progress)));
  const report: Report = {
    machine: { cpu: cpus()[0]?.model.trim() ?? '?', cores: cpus().length, gigabytes: Math.round(totalmem() / 2 ** 30), os: `${type()} ${release()}`, node: process.versions.node, lutra: __LUTRA_VERSION__, wasm: '', date: new Date().toISOString().slice(0, 10) },
    endToEnd: [], depth: [], kernels: [], roof: null,
  };
  // The first Ctrl-C ends the round and prints what there is; the second ends everything.
  process.once('SIGINT', () => { say('finishing with what has been measured; again to quit'); interrupt.abort(); process.once('SIGINT', () => process.exit(130)); });
  const save = () => { if (values.save) writeFileSync(values.save, JSON.stringify(report)); };

  const measures = !(values.from.length > 0 && !values.peers && !values.depth && !values.kernels && !values.model);
  if (measures) say(describeMachine(report.machine));
  if (measures && values.kernels) {
    await measureKernels(report);
    save();
  }
  if (measures && (values.depth || !values.kernels)) {
    const model = values.model ? await fileModel(values.model) : syntheticModel(values.shape, shape, values.bits, Number(values.group ?? (values.bits === '4' ? 64 : 128)), values.head, values.keep);
    try {
      if (values.crews) {
        const { benchCrews, crewTable } = await import('./crews.js');
        const rows = await benchCrews(model, { counts, rounds: Number(values.rounds), prompt: Number(values.prompt), generated: Number(values.generate), variant }, words, say);
        return console.log(values.json ? JSON.stringify(rows) : crewTable(rows));
      }
      if (values.depth) report.depth.push(await measureDepth(model, values.depth.split(',').map(Number)));
      else report.endToEnd.push(await measureEndToEnd(model, report));
    } finally {
      await model.close();
    }
    save();
  }
  progress('');
  const own: Report = { ...report, endToEnd: [...report.endToEnd], depth: [...report.depth] };
  for (const path of values.from) {
    const { machine, endToEnd, depth, kernels, roof } = JSON.parse(readFileSync(path, 'utf8')) as Report;
    if (!measures) report.machine = machine;
    report.endToEnd.push(...endToEnd);
    report.depth.push(...depth);
    report.kernels.push(...kernels);
    report.roof ??= roof;
  }
  if (values.html) writeFileSync(values.html, pageOf(report));
  if (values.json) console.log(JSON.stringify(report));
  else {
    const measured = report.endToEnd.filter(({ rows }) => rows.some(({ decode }) => present(decode).length > 0));
    const parts = [...measured.map(endToEndTable), ...report.depth.map(depthTable), ...(report.kernels.length > 0 ? [kernelTable(report.kernels)] : [])];
    console.log(`\n${describeMachine(report.machine)}\n\n${parts.join('\n\n')}`);
  }
  const warning = noise(own);
  if (warning) say(`\n${warning}`);
}

if (isRoofWorker) await serveRoof();
else await main();
