/** The version in package.json, put in by the bundler. */
declare const __LUTRA_VERSION__: string;

/** Files that the bundler puts in as text. */
declare module 'uplot/dist/uPlot.iife.min.js' {
  const text: string;
  export default text;
}
declare module 'uplot/dist/uPlot.min.css' {
  const text: string;
  export default text;
}
