/**
 * A warning as an archive's manifest holds it: perhaps of a newer version, with a code that this one does not know; or
 * by somebody who means harm. Hence the loose types.
 */
export interface RecordedWarning {
  code: string;
  facts: Record<string, unknown>;
  message: string;
  remedy: string;
}

/**
 * The warnings of a manifest's `subject`; what is no warning is left out. Archives of versions without warnings have
 * none.
 */
export function recordedWarnings(subject: Record<string, unknown>): RecordedWarning[] {
  const { warnings } = subject;
  return Array.isArray(warnings) ? warnings.filter(isWarning) : [];
}

function isWarning(value: unknown): value is RecordedWarning {
  if (typeof value !== 'object' || value === null) return false;
  const { code, facts, message, remedy } = value as Partial<Record<keyof RecordedWarning, unknown>>;
  const areTexts = [code, message, remedy].every((text) => typeof text === 'string');
  return areTexts && typeof facts === 'object' && facts !== null;
}
