/* What the addon's files share: each registers its own functions on `exports`. */
#ifndef STILLFRAME_ADDON_H
#define STILLFRAME_ADDON_H

#include <node_api.h>

void sf_init_held(napi_env env, napi_value exports);
void sf_init_socket(napi_env env, napi_value exports);
void sf_init_poll(napi_env env, napi_value exports);
void sf_init_spawn(napi_env env, napi_value exports);
void sf_init_tree(napi_env env, napi_value exports);
void sf_init_scan(napi_env env, napi_value exports);
void sf_init_exclude(napi_env env, napi_value exports);
void sf_init_describe(napi_env env, napi_value exports);
void sf_init_hash(napi_env env, napi_value exports);
void sf_init_pass(napi_env env, napi_value exports);
void sf_init_lines(napi_env env, napi_value exports);
void sf_init_copy(napi_env env, napi_value exports);
void sf_init_copy_ranges(napi_env env, napi_value exports);
void sf_init_move(napi_env env, napi_value exports);
void sf_init_files(napi_env env, napi_value exports);
void sf_init_remove(napi_env env, napi_value exports);
void sf_init_locks(napi_env env, napi_value exports);
void sf_init_descriptors(napi_env env, napi_value exports);
void sf_init_look_up(napi_env env, napi_value exports);
void sf_init_open_entry(napi_env env, napi_value exports);

/* Throws an Error with code ("ENOENT"), errno (negative, as Node's own) and syscall. Returns NULL. */
napi_value sf_throw_errno(napi_env env, int err, const char *syscall);

/* The same error as a value, for rejecting a promise. */
napi_value sf_errno_error(napi_env env, int err, const char *syscall);

/*
 * Closes the descriptor with the environment, unless sf_close_fd() does so before. Returns 0, or ENOMEM: then nothing
 * is held.
 */
int sf_hold_fd(napi_env env, int fd);
/* The same for a child's pidfd; a child that has not been reaped by then is reaped when it ends. */
int sf_hold_child(napi_env env, int pidfd);
/* Both or, with both closed, none. */
int sf_hold_pair(napi_env env, const int *fds);
void sf_close_fd(napi_env env, int fd);

void sf_set_function(napi_env env, napi_value object, const char *name, napi_callback fn);

#endif
