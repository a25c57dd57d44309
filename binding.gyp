{
  "targets": [
    {
      "target_name": "stillframe",
      "sources": ["native/addon.c", "native/socket.c", "native/poll.c", "native/tree.c", "native/scan.c", "native/describe.c", "native/copy.c", "native/hash.c", "native/files.c"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=implicit-function-declaration", "-fvisibility=hidden"],
      "ldflags": ["-Wl,-z,relro,-z,now"]
    }
  ]
}
