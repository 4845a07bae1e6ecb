// serial, 600 s
// examples/react-native-webview, bundled by Metro with React Native's own settings; and what plain `import 'lutra'` is there.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../../build/util.mjs';
import { packages, placeLutra } from '../helpers/packages.js';
import { repoRoot } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('Metro');
const sources = join(repoRoot, 'tests', 'apps', 'metro');
const tools = await packages('apps-metro', sources);

if ('missing' in tools) {
  for (const name of ['the example\'s bundle', 'plain lutra']) skip(test, name, tools.missing);
} else {
  // Metro looks for packages in the folders above the app.
  const app = mkdtempSync(join(tools.folder, 'app-'));
  const bundle = async (entry: string, platform: string): Promise<string> => {
    const out = join(app, `${platform}.bundle.js`);
    await run(join(tools.folder, 'node_modules', '.bin', 'metro'), ['build', entry, '--config', 'metro.config.cjs', '--platform', platform, '--dev', 'false', '--minify', 'false', '--out', out], { cwd: app } as object);
    return readFileSync(out, 'utf8');
  };

  test.before(() => {
    for (const name of ['babel.config.cjs', 'metro.config.cjs']) cpSync(join(sources, name), join(app, name));
    for (const name of ['App.jsx', 'index.js']) cpSync(join(repoRoot, 'examples', 'react-native-webview', name), join(app, name));
    writeFileSync(join(app, 'plain.js'), 'import { loadModel } from "lutra"; globalThis.loaded = loadModel;');
    placeLutra(app);
  });
  test.after(() => { rmSync(app, { recursive: true, force: true }); });

  test('the example\'s bundle: the component and its page are inside', async () => {
    const text = await bundle('index.js', 'android');
    for (const expected of ['AppRegistry', 'LutraBridge', 'lutraReceive', 'RNCWebView']) assert.match(text, expected);
    assert.not.match(text, /\bimport\.meta\b/);
  });

  test('plain lutra: a typed error that names the right entry', async () => {
    const text = await bundle('plain.js', 'ios');
    let thrown: any;
    try {
      runInNewContext(text, { console });
    } catch (error) {
      thrown = error;
    }
    assert.equal([thrown?.code, thrown?.name], ['ENVIRONMENT', 'EnvironmentError']);
    assert.match(thrown.hint, 'lutra/react-native');
  });
}

test.run();
