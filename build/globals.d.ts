/** The version in package.json, put in by the bundler. */
declare const __LUTRA_VERSION__: string;

/** A file that the bundler puts in as text. */
declare module '*/chart.umd.min.js' {
  const text: string;
  export default text;
}

/** What is used of the packages that an app for React Native brings along. */
declare module 'react' {
  export function createElement(type: unknown, props: object): unknown;
  export function useEffect(effect: () => () => void, dependencies: unknown[]): void;
  export function useRef<T>(value: T): { current: T };
  export function useState<T>(value: T): [T, (value: T) => void];
}
declare module 'react-native-webview' {
  export const WebView: unknown;
}
