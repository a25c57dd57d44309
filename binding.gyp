{
  "targets": [
    {
      "target_name": "stillframe",
      "sources": ["native/addon.c", "native/job.c", "native/held.c", "native/socket.c", "native/poll.c", "native/spawn.c", "native/store.c", "native/tree.c", "native/watch.c", "native/scan.c", "native/member.c", "native/details.c", "native/describe.c", "native/out.c", "native/copy.c", "native/move.c", "native/hash.c", "native/lines.c", "native/files.c"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=implicit-function-declaration", "-fvisibility=hidden"],
      # It stays loaded: a thread of its own (watch.c) may outlive the worker that loaded it.
      "ldflags": ["-Wl,-z,relro,-z,now,-z,nodelete"]
    },
    {
      # A program of its own, static: it starts in under a millisecond, and needs nothing that could be gone when it acts.
      "target_name": "stillframe-guardian",
      "type": "executable",
      "sources": ["native/guardian.c", "native/guardian-criu.c", "native/guardian-mend.c", "native/guardian-remove.c", "native/guardian-report.c"],
      "defines": ["_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fno-asynchronous-unwind-tables"],
      "ldflags": ["-static", "-Wl,-z,relro,-z,now", "-Wl,--gc-sections"]
    },
    {
      # Small: it stays for as long as a restored job that has a terminal.
      "target_name": "stillframe-hold-session",
      "type": "executable",
      "sources": ["native/hold-session.c"],
      "defines": ["_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fno-asynchronous-unwind-tables"],
      "ldflags": ["-static", "-Wl,-z,relro,-z,now", "-Wl,--gc-sections"]
    }
  ]
}
