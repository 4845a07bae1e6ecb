/**
 * Patterns that came with a tokenizer. An engine that backtracks can take exponential time where a group that holds a
 * choice or a repetition is itself repeated without bound; no tokenizer in use has such a group.
 */
import type { TokenizerJson } from './pieces.js';

const LONGEST_PATTERN = 4096;

/** @throws Error */
export function checkPatterns({ normalizer, pre_tokenizer: cut }: TokenizerJson): void {
  const visit = (value: unknown, depth: number): void => {
    if (typeof value !== 'object' || value === null) return;
    if (depth > 32) throw new Error('its steps are nested too deeply');
    for (const [key, inner] of Object.entries(value)) {
      if (key === 'Regex' && (typeof inner !== 'string' || inner.length > LONGEST_PATTERN || repeatsChoices(inner))) throw new Error(`a pattern that could take forever: ${String(inner).slice(0, 100)}`);
      visit(inner, depth + 1);
    }
  };
  visit(normalizer, 0);
  visit(cut, 0);
}

/** Whether a group with a choice or repetition in it is repeated without bound. */
function repeatsChoices(source: string): boolean {
  // Escapes and classes are single characters here.
  const pattern = source.replace(/\\./gs, 'x').replace(/\[\^?\]?[^\]]*\]/g, 'x').replace(/\(\?(?:[:=!]|<[=!]|[a-z]+:)/gi, '(');
  const groups: boolean[] = [false];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!, varies = /^(?:[*+?|]|\{\d*,\d*\})/.test(pattern.slice(at, at + 12));
    if (char === '(') groups.push(false);
    else if (varies) groups[groups.length - 1] = true;
    else if (char === ')' && groups.length > 1) {
      const variable = groups.pop()!;
      if (variable && /^(?:[*+]|\{\d*,?\d*\})/.test(pattern.slice(at + 1, at + 12))) return true;
      if (variable) groups[groups.length - 1] = true;
    }
  }
  return false;
}
