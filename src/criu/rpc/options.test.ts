import { expectTypeOf, test } from 'vitest';
import type {
  CriuDumpOptions,
  CriuDumpRequest,
  CriuOptions,
  CriuRestoreOptions,
  CriuRestoreRequest,
} from './options.js';

// The compiler judges these, in `npm run typecheck`.
test('what only a restore has is no option of a dump, and the other way round', () => {
  // @ts-expect-error: the images of a checkpoint are to hold the memory
  const lazy: CriuDumpOptions = { lazyPages: true };
  // @ts-expect-error: a restore's
  const sibling: CriuDumpRequest = { pid: 1, imagesDir: '/', rstSibling: true };
  // @ts-expect-error: a dump's
  const running: CriuRestoreOptions = { leaveRunning: true };
  // @ts-expect-error: a dump's
  const ghost: CriuRestoreRequest = { imagesDir: '/', ghostLimit: 1 };
  void [lazy, sibling, running, ghost];
  expectTypeOf<CriuRestoreOptions>().toHaveProperty('lazyPages');
  expectTypeOf<CriuDumpOptions>().toHaveProperty('leaveRunning');
});

test('every option is one of a dump or of a restore, and both take what all options are', () => {
  expectTypeOf<keyof CriuOptions>().toEqualTypeOf<keyof CriuDumpOptions | keyof CriuRestoreOptions>();
  expectTypeOf<CriuOptions>().toExtend<CriuDumpOptions>();
  expectTypeOf<CriuOptions>().toExtend<CriuRestoreOptions>();
});
