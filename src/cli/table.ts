/** Rows of text as columns of equal width: a line for each row. `isText`: columns that begin at the left; others are numbers. */
export function aligned(rows: readonly (readonly string[])[], isText: (column: number) => boolean = column => column === 0): string[] {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map(row => row[i]!.length))) ?? [];
  return rows.map(row => row.map((cell, i) => isText(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join('  ').trimEnd());
}
