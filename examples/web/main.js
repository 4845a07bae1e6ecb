import { loadModel } from '../../dist/index.js';

const $ = id => document.getElementById(id);
const embedded = new URL('../../models/stories.lutra.safetensors', location.href);

let model, writing;

/** Puts another model in place of the one that is there. `source` may be a promise of it. */
async function open(name, source) {
  $('go').disabled = true;
  $('trouble').hidden = true;
  $('name').textContent = name;
  $('status').textContent = 'Loading…';
  showProgress(0);
  writing?.cancel();
  await model?.dispose();
  model = undefined;
  try {
    model = await loadModel(await source, { onProgress: ({ loaded, total }) => showProgress(loaded / total) });
    describe();
    $('go').disabled = false;
    return true;
  } catch (error) {
    show(error);
    $('status').textContent = 'No model.';
    return false;
  } finally {
    $('progress').hidden = true;
  }
}

async function write() {
  const prompt = $('prompt').value;
  $('trouble').hidden = true;
  $('go').textContent = 'Stop';
  const given = Object.assign(document.createElement('span'), { className: 'given', textContent: prompt });
  $('story').replaceChildren(given);
  const begin = performance.now();
  let tokens = 0;
  try {
    writing = model.generate(prompt, {
      temperature: Number($('temperature').value),
      ...$('seed').value && { seed: Number($('seed').value) },
    });
    for await (const { text, ids } of writing) {
      $('story').append(text);
      tokens += ids.length;
      describe(`${tokens} tokens, ${(tokens / (performance.now() - begin) * 1000).toFixed(0)} a second`);
    }
    const { timings, seed, completionTokens } = await writing.result;
    describe(`${completionTokens} tokens, ${timings.decodeTokensPerSecond.toFixed(0)} a second, seed ${seed}`);
  } catch (error) {
    show(error);
  } finally {
    writing = undefined;
    $('go').textContent = 'Write';
  }
}

/** What runs the model, and why. */
function describe(speed = 'Ready.') {
  const { threads, crew, crewReason, wasm, packedBytes, loadSeconds } = model.info();
  $('status').textContent = `${speed}\n${(packedBytes / 1e6).toFixed(1)} MB, ready in ${loadSeconds.toFixed(2)} s; ${threads} thread${threads === 1 ? '' : 's'}, ${wasm}; crew: ${crew}, ${crewReason}`;
}

function showProgress(share) {
  $('progress').hidden = false;
  $('progress').value = share;
}

function show(error) {
  $('trouble').hidden = false;
  $('trouble').textContent = `${error.message}\n${error.hint ?? ''}`;
}

const openFile = file => file && open(file.name, file);
/** Downloaded once, then kept on this device. */
const openUrl = url => open(url.split('/').pop(), url);

$('ask').addEventListener('submit', event => {
  event.preventDefault();
  if (writing) writing.cancel();
  else void write();
});
$('link').addEventListener('submit', event => {
  event.preventDefault();
  void openUrl($('url').value);
});
$('file').addEventListener('change', event => openFile(event.target.files[0]));
addEventListener('dragover', event => {
  event.preventDefault();
  document.body.classList.add('drag');
});
addEventListener('dragleave', () => document.body.classList.remove('drag'));
addEventListener('drop', event => {
  event.preventDefault();
  document.body.classList.remove('drag');
  void openFile(event.dataTransfer.files[0]);
});

// Not by its address: what is kept under that is not asked for again, and this model comes with the page.
if (await open(embedded.pathname.split('/').pop(), fetch(embedded).then(response => response.blob()))) await write();
