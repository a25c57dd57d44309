import { expect, it } from 'vitest';
import { parseCriuOptions } from './option-text.js';

it.each([
  [['tcpClose'], { tcpClose: true }],
  [['tcp-close'], { tcpClose: true }],
  [['tcp-close=false'], { tcpClose: false }],
  [['ghost-limit=1048576'], { ghostLimit: 1_048_576 }],
  [['root=/a=b'], { root: '/a=b' }],
  [['external=mnt[/x]:y', 'external=net[5]:n'], { external: ['mnt[/x]:y', 'net[5]:n'] }],
  [['skip-mnt=["/a","/b"]', 'skipMnt=/c'], { skipMnt: ['/a', '/b', '/c'] }],
  [['enable-fs=5'], { enableFs: ['5'] }],
  [['cgRoot=[{"path":"/x"}]'], { cgRoot: [{ path: '/x' }] }],
  [['lsm-profile={x'], { lsmProfile: '{x' }],
  [[], {}],
])('%j is %j', (texts, options) => {
  expect(parseCriuOptions(texts)).toEqual(options);
});

it.each(['nonsense', '', '=x', 'constructor', 'Tcp-close'])('refuses the name in %j', (text) => {
  expect(() => parseCriuOptions([text])).toThrow('there is no such option');
});
