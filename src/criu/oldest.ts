/** The oldest CRIU whose dump and restore have all that Stillframe asks for: `networkLock: 'skip'`. */
export const OLDEST_CRIU = { text: '3.19', versionNumber: 31900 };
