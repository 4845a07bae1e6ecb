/** Passes progress on at most ten times a second, and always the end. */
export function atMostTenPerSecond(report: (loaded: number, total: number) => void): (loaded: number, total: number) => void {
  let last = -Infinity;
  return (loaded, total) => {
    const now = performance.now();
    if (loaded < total && now - last < 100) return;
    last = now;
    report(loaded, total);
  };
}
