/*
 * The few functions of libuv that are called, which every Node.js exports. Declared here, not included: Debian's
 * Node.js comes without uv.h, and what is declared is the same in every libuv 1.x (uv.h, since 1.19), as long as a
 * handle's size is asked for.
 */
#ifndef STILLFRAME_LIBUV_H
#define STILLFRAME_LIBUV_H

#include <stddef.h>

typedef struct uv_loop_s uv_loop_t; /* as node_api.h has it */
typedef struct uv_poll_s uv_poll_t;

enum { UV_POLL = 8 }; /* of uv_handle_type */
enum { UV_READABLE = 1, UV_WRITABLE = 2, UV_PRIORITIZED = 8 };

size_t uv_handle_size(int type);
/* Every handle begins as a uv_handle_t does: these take any. */
void *uv_handle_get_data(const uv_poll_t *handle);
void uv_handle_set_data(uv_poll_t *handle, void *data);
void uv_ref(uv_poll_t *handle);
void uv_unref(uv_poll_t *handle);
void uv_close(uv_poll_t *handle, void (*closed)(uv_poll_t *handle));

int uv_poll_init(uv_loop_t *loop, uv_poll_t *handle, int fd);
int uv_poll_start(uv_poll_t *handle, int events, void (*ready)(uv_poll_t *handle, int status, int events));

#endif
