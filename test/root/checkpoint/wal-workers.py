# Workers that write to and check one SQLite database in WAL mode: its -shm file is mapped and locked by each.
import os, sqlite3, sys, time

folder, workers = sys.argv[1], int(sys.argv[2])
path = folder + '/db'
db = sqlite3.connect(path, isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('CREATE TABLE IF NOT EXISTS counts (worker INTEGER, n INTEGER)')
db.executemany('INSERT INTO counts VALUES (?, 0)', [(worker,) for worker in range(workers)])
db.close()
for worker in range(workers):
    if os.fork() == 0:
        break
else:
    while True:
        time.sleep(1)
db = sqlite3.connect(path, isolation_level=None, timeout=30)
db.execute('PRAGMA wal_autocheckpoint = 5')
n = 0
while True:
    n += 1
    db.execute('BEGIN IMMEDIATE')
    db.execute('UPDATE counts SET n = ? WHERE worker = ?', (n, worker))
    db.execute('COMMIT')
    found = db.execute('SELECT n FROM counts WHERE worker = ?', (worker,)).fetchone()[0]
    if found != n:
        open(folder + '/lost', 'a').write('worker %d: %d instead of %d\n' % (worker, found, n))
    time.sleep(0.002)
