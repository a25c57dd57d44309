import type { JsonBytes, PatternUse } from '../../archive/index.js';
import { warning, type IdlePattern, type Warning } from './warning.js';

/** A pattern for several trees, as `--exclude` makes them, need not mean something in each. */
export function warnOfIdlePatterns(trees: readonly { tree: JsonBytes; patterns: readonly PatternUse[] }[]): Warning[] {
  const uses = new Map<string, IdlePattern & { used: boolean }>();
  for (const { tree, patterns } of trees)
    for (const { pattern, used } of patterns) {
      const key = JSON.stringify(pattern);
      const known = uses.get(key) ?? { pattern, trees: [], used: false };
      uses.set(key, { pattern, trees: [...known.trees, tree], used: known.used || used });
    }
  const idle = [...uses.values()].filter(({ used }) => !used).map(({ pattern, trees }) => ({ pattern, trees }));
  return idle.length === 0 ? [] : [warning('EXCLUDE_MATCHES_NOTHING', { patterns: idle })];
}
