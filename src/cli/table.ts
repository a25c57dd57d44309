import Table from 'cli-table3';
import { visibleName } from '../visible.js';

type Row = readonly (string | number)[];

const NO_BORDERS = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ].map((name) => [name, '']),
);
const BETWEEN = '  ';

/** The width of each column is that of so many rows: a list of any length takes no more memory than these. */
const MEASURED_ROWS = 1000;

/** Cells as they are, without borders; nothing but the columns' widths is computed. */
export function plainTable(
  head: readonly string[],
  colAligns: ('left' | 'right')[],
  rows: readonly (readonly string[])[],
): string {
  const table = new Table({
    head: [...head],
    colAligns,
    chars: { ...NO_BORDERS, middle: BETWEEN },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) table.push([...row]);
  return table.toString().replace(/[ \t]+$/gm, '');
}

/** Rows under a head, in columns a person can read and `awk` can split; numbers to the right. */
export function table(head: readonly string[], rows: readonly Row[]): string {
  const lines = new TableLines(head);
  return [...rows.map((row) => lines.add(row)), lines.end()].filter((text) => text !== '').join('\n');
}

/** The same for rows that come one by one. */
export class TableLines {
  readonly #head: readonly string[];
  #first: string[][] | undefined = [];
  #columns: { width: number; isNumeric: boolean }[] = [];

  constructor(head: readonly string[]) {
    this.#head = head;
  }

  /** @returns the lines that are due now, without a last line end; '' when there are none */
  add(row: Row): string {
    const cells = row.map((cell) => visibleName(String(cell)));
    if (this.#first === undefined) return this.#line(cells);
    this.#first.push(cells);
    return this.#first.length < MEASURED_ROWS ? '' : this.end();
  }

  end(): string {
    const rows = this.#first;
    if (rows === undefined) return '';
    this.#first = undefined;
    this.#columns = this.#head.map((name, column) => {
      const cells = rows.map((row) => row[column] ?? '');
      return {
        width: Math.max(name.length, ...cells.map((cell) => cell.length)),
        isNumeric: cells.length > 0 && cells.every((cell) => /^[\d.,]+( (ms|s|B|[KMGT]iB|%|x))?$/.test(cell)),
      };
    });
    return plainTable(
      this.#head,
      this.#columns.map(({ isNumeric }) => (isNumeric ? 'right' : 'left')),
      rows,
    );
  }

  #line(cells: readonly string[]): string {
    const padded = this.#columns.map(({ width, isNumeric }, column) => {
      const cell = cells[column] ?? '';
      return isNumeric ? cell.padStart(width) : cell.padEnd(width);
    });
    return padded.join(BETWEEN).trimEnd();
  }
}
