/** What `import 'lutra'` is in React Native. */
import { EnvironmentError } from '../errors.js';

throw new EnvironmentError('WebAssembly (React Native\'s engine, Hermes, has none)', 'Import `lutra/react-native` instead: there models run in a WebView.');
