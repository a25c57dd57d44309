import { expect, it } from 'vitest';
import { beforeCriu42, thisMachine } from './older-criu.js';

const fine = { hasUdpLite: true, isFrom616: false, isVirtual: false };

it('an older CRIU has no problem with an older kernel on hardware', () => {
  expect(beforeCriu42(fine)).toEqual([]);
});

it.each([
  [{ isVirtual: true }, ['hardware breakpoints'], ['CRIU_FAULT=130']],
  [{ isFrom616: true }, ['Linux 6.16'], []],
  [{ hasUdpLite: false, isFrom616: true }, ['UDP-Lite'], []],
  [{ isFrom616: true, isVirtual: true }, ['Linux 6.16', 'hardware breakpoints'], ['CRIU_FAULT=130']],
])('of %j each problem is named, with what helps', (machine, problems, remedies) => {
  const found = beforeCriu42({ ...fine, ...machine });
  expect(found.map(({ what }) => problems.find((problem) => what.includes(problem)))).toEqual(problems);
  const given = found.map(({ remedy }) => remedy).filter((remedy) => remedy !== '');
  expect(given).toEqual(remedies.map((remedy) => expect.stringContaining(remedy) as string));
});

it('this machine can be looked at', () => {
  expect(Object.values(thisMachine()).every((value) => typeof value === 'boolean')).toBe(true);
});
