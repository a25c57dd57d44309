{
  "targets": [
    {
      "target_name": "stillframe",
      "sources": ["native/addon/addon.c", "native/addon/job.c", "native/addon/owned-fds.c", "native/addon/socket.c", "native/addon/poll.c", "native/addon/spawn.c", "native/tree/store.c", "native/tree/tree.c", "native/tree/watch.c", "native/tree/scan.c", "native/archive/member.c", "native/archive/details.c", "native/archive/describe.c", "native/archive/out.c", "native/archive/copy.c", "native/archive/move.c", "native/archive/hash.c", "native/archive/lines.c", "native/addon/files.c", "native/addon/locks.c", "native/addon/look-up.c", "native/remove/remove.c", "native/remove/remove-job.c"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=implicit-function-declaration", "-fvisibility=hidden"],
      # It stays loaded: a thread of its own (watch.c) may outlive the worker that loaded it.
      "ldflags": ["-Wl,-z,relro,-z,now,-z,nodelete"]
    },
    {
      # A program of its own, static: it starts in under a millisecond, and needs nothing that could be gone when it acts.
      "target_name": "stillframe-guardian",
      "type": "executable",
      "sources": ["native/guardian/guardian.c", "native/guardian/guardian-criu.c", "native/guardian/guardian-mend.c", "native/guardian/guardian-remove.c", "native/guardian/guardian-restore.c", "native/remove/remove.c", "native/guardian/guardian-report.c"],
      "defines": ["_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fno-asynchronous-unwind-tables"],
      "ldflags": ["-static", "-Wl,-z,relro,-z,now", "-Wl,--gc-sections"]
    },
    {
      # Small: it stays for as long as a restored job that has a terminal.
      "target_name": "stillframe-hold-session",
      "type": "executable",
      "sources": ["native/programs/hold-session.c"],
      "defines": ["_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fno-asynchronous-unwind-tables"],
      "ldflags": ["-static", "-Wl,-z,relro,-z,now", "-Wl,--gc-sections"]
    }
  ]
}
