/** `lutra doctor`: what is here, what is chosen and why, and whether it works. */
import { arch, platform, totalmem } from 'node:os';
import { Command } from 'commander';
import { environment, type ModelInfo } from '../index.js';
import { addModelOptions, embeddedModel, load, modelPath, type ModelOptions } from './options.js';
import { bytes, printJson } from './terminal.js';

export function doctorCommand(): Command {
  const command = new Command('doctor')
    .description('Shows what this machine and runtime have, which kernels and threads are chosen and why; runs a model for a moment.')
    .argument('[model]', 'the model to try (default: the one that comes with the package)')
    .addHelpText('after', '\nExample:\n  lutra doctor');
  return addModelOptions(command).action(async (argument: string | undefined, options: ModelOptions) => {
    const machine = { system: `${platform()} ${arch()}`, memoryBytes: totalmem(), ...environment() };
    if (!options.json) process.stdout.write(rows(describeMachine(machine)));
    await using model = await load(modelPath(command, argument, options, embeddedModel()), options);
    const { timings, completionTokens } = await model.generate('Once upon a time', { temperature: 0, maxTokens: 64 }).result;
    const info = model.info();
    if (options.json) printJson({ ...machine, info, completionTokens, ...timings });
    else process.stdout.write(rows(describeModel(info, timings.decodeTokensPerSecond)));
  });
}

type Machine = ReturnType<typeof environment> & { system: string; memoryBytes: number };

const describeMachine = ({ lutra, runtime, system, cores, memoryBytes, simd, relaxedSimd, sharedMemory, sharedMemoryObstacle }: Machine): [string, string][] => [
  ['lutra', lutra],
  ['runtime', `${runtime}, ${system}`],
  ['cores, memory', `${cores}, ${bytes(memoryBytes)}`],
  ['WebAssembly SIMD', simd ? `yes${relaxedSimd ? ', relaxed too' : '; relaxed SIMD: no'}` : 'no: nothing will run'],
  ['shared memory', sharedMemory ? 'yes' : `no: ${sharedMemoryObstacle}`],
];

function describeModel({ source, wasm, crew, crewReason, threads, threadTimings, kernels, loadSeconds }: ModelInfo, tokensPerSecond: number): [string, string][] {
  const timings = Object.entries(threadTimings ?? {}).map(([count, seconds]) => `${count}: ${(seconds * 1000).toFixed(2)} ms`).join(', ');
  return [
    ['model', `${source}, ready in ${loadSeconds.toFixed(2)} s`],
    ['variant', wasm],
    ['crew', `${crew}: ${crewReason}`],
    ['threads', `${threads}${timings && ` (a few steps with ${timings})`}`],
    ['kernels', Object.entries(kernels).map(([name, count]) => `${name} (${count})`).join(', ')],
    ['decoding', `${tokensPerSecond.toFixed(1)} tokens/s`],
  ];
}

const rows = (pairs: [string, string][]) => pairs.map(([name, value]) => `${`${name}:`.padEnd(19)}${value}\n`).join('');
