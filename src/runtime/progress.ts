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

/** The same for each of several phases. */
export function inPhases<Phase>(report: (phase: Phase, loaded: number, total: number) => void): (phase: Phase, loaded: number, total: number) => void {
  const reports = new Map<Phase, (loaded: number, total: number) => void>();
  return (phase, loaded, total) => {
    let one = reports.get(phase);
    if (!one) reports.set(phase, one = atMostTenPerSecond((...progress) => report(phase, ...progress)));
    one(loaded, total);
  };
}
