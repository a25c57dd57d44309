/*
 * A descriptor watched on libuv's own loop: no thread, no timer.
 *
 * The handle owns a duplicate of the descriptor: libuv allows one watcher per descriptor number, and a number that its
 * owner closes must not be polled any more. Both refer to the same open file, so reading the original rearms both.
 */
#include "addon.h"
#include "libuv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct poll {
	uv_poll_t *handle;
	napi_env env;
	napi_ref self; /* keeps the object alive while it watches */
	napi_ref callback;
	napi_async_context context;
	napi_async_cleanup_hook_handle cleanup;
	int fd;
	bool closing;
	bool closed; /* libuv has let go of the handle */
	bool finalized; /* JavaScript has let go of the object */
};

static void free_when_done(struct poll *poll)
{
	if (poll->closed && poll->finalized) {
		free(poll->handle);
		free(poll);
	}
}

static void on_closed(uv_poll_t *handle)
{
	struct poll *poll = uv_handle_get_data(handle);

	poll->closed = true;
	napi_remove_async_cleanup_hook(poll->cleanup);
	free_when_done(poll);
}

static void close_poll(struct poll *poll)
{
	if (poll->closing)
		return;
	poll->closing = true;
	/* uv_close stops the watcher at once; only then may the descriptor go. */
	uv_close(poll->handle, on_closed);
	close(poll->fd);
	napi_async_destroy(poll->env, poll->context);
	napi_delete_reference(poll->env, poll->callback);
	napi_delete_reference(poll->env, poll->self);
}

static void on_env_cleanup(napi_async_cleanup_hook_handle handle, void *data)
{
	/* A handle that is already closing removes the hook itself, in on_closed. */
	close_poll(data);
}

static void on_finalize(napi_env env, void *data, void *hint)
{
	struct poll *poll = data;

	poll->finalized = true;
	free_when_done(poll);
}

static void on_event(uv_poll_t *handle, int status, int events)
{
	struct poll *poll = uv_handle_get_data(handle);
	napi_env env = poll->env;
	napi_handle_scope scope;
	napi_value self, callback, argument, error;
	bool pending = false;

	if (poll->closing)
		return;
	if (napi_open_handle_scope(env, &scope) != napi_ok)
		return;
	napi_get_reference_value(env, poll->self, &self);
	napi_get_reference_value(env, poll->callback, &callback);
	napi_create_int32(env, status, &argument);
	/* napi_make_callback opens a callback scope: promise jobs and process.nextTick run when it returns. */
	napi_make_callback(env, poll->context, self, callback, 1, &argument, NULL);
	napi_is_exception_pending(env, &pending);
	if (pending) {
		napi_get_and_clear_last_exception(env, &error);
		napi_fatal_exception(env, error); /* as any callback's: 'uncaughtException' */
	}
	napi_close_handle_scope(env, scope);
}

static int event_mask(const char *name)
{
	if (!strcmp(name, "readable"))
		return UV_READABLE;
	if (!strcmp(name, "writable"))
		return UV_WRITABLE;
	if (!strcmp(name, "priority"))
		return UV_PRIORITIZED;
	return 0;
}

/* Starts the watcher on a duplicate of fd. Returns 0 or a negative errno; then nothing is left behind. */
static int start(struct poll *poll, uv_loop_t *loop, int fd, int mask, const char **syscall)
{
	int err;

	*syscall = "fcntl";
	poll->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (poll->fd < 0)
		return -errno;
	*syscall = "epoll_ctl";
	err = uv_poll_init(loop, poll->handle, poll->fd);
	if (err) {
		close(poll->fd);
		return err;
	}
	uv_handle_set_data(poll->handle, poll);
	return uv_poll_start(poll->handle, mask, on_event); /* fails only for a handle that is closing */
}

static napi_value construct(napi_env env, napi_callback_info info)
{
	napi_value args[3], self, name;
	size_t argc = 3, length;
	char events[16];
	const char *syscall;
	int32_t fd;
	int mask, err;
	uv_loop_t *loop;
	struct poll *poll;
	napi_valuetype type;

	napi_get_cb_info(env, info, &argc, args, &self, NULL);
	if (argc < 3 || napi_get_value_int32(env, args[0], &fd) != napi_ok ||
		napi_get_value_string_utf8(env, args[1], events, sizeof(events), &length) != napi_ok ||
		napi_typeof(env, args[2], &type) != napi_ok || type != napi_function || !(mask = event_mask(events))) {
		napi_throw_type_error(env, NULL, "Poll(fd, 'readable' | 'writable' | 'priority', onEvent)");
		return NULL;
	}
	napi_get_uv_event_loop(env, &loop);

	poll = calloc(1, sizeof(*poll));
	if (poll)
		poll->handle = malloc(uv_handle_size(UV_POLL));
	if (!poll || !poll->handle) {
		free(poll);
		return sf_throw_errno(env, ENOMEM, "malloc");
	}
	poll->env = env;
	err = start(poll, loop, fd, mask, &syscall);
	if (err) {
		free(poll->handle);
		free(poll);
		return sf_throw_errno(env, -err, syscall);
	}
	napi_create_string_utf8(env, "stillframe:poll", NAPI_AUTO_LENGTH, &name);
	napi_async_init(env, self, name, &poll->context);
	napi_create_reference(env, args[2], 1, &poll->callback);
	napi_create_reference(env, self, 1, &poll->self);
	napi_add_async_cleanup_hook(env, on_env_cleanup, poll, &poll->cleanup);
	napi_wrap(env, self, poll, on_finalize, NULL, NULL);
	return self;
}

static struct poll *unwrap(napi_env env, napi_callback_info info)
{
	napi_value self;
	void *poll = NULL;

	napi_get_cb_info(env, info, NULL, NULL, &self, NULL);
	if (napi_unwrap(env, self, &poll) != napi_ok)
		napi_throw_type_error(env, NULL, "not a Poll");
	return poll;
}

static napi_value close_method(napi_env env, napi_callback_info info)
{
	struct poll *poll = unwrap(env, info);

	if (poll)
		close_poll(poll);
	return NULL;
}

static napi_value ref_method(napi_env env, napi_callback_info info)
{
	struct poll *poll = unwrap(env, info);

	if (poll && !poll->closing)
		uv_ref(poll->handle);
	return NULL;
}

static napi_value unref_method(napi_env env, napi_callback_info info)
{
	struct poll *poll = unwrap(env, info);

	if (poll && !poll->closing)
		uv_unref(poll->handle);
	return NULL;
}

void sf_init_poll(napi_env env, napi_value exports)
{
	const napi_property_descriptor methods[] = {
		{ .utf8name = "close", .method = close_method, .attributes = napi_default_method },
		{ .utf8name = "ref", .method = ref_method, .attributes = napi_default_method },
		{ .utf8name = "unref", .method = unref_method, .attributes = napi_default_method },
	};
	napi_value constructor;

	napi_define_class(
		env, "Poll", NAPI_AUTO_LENGTH, construct, NULL, sizeof(methods) / sizeof(methods[0]), methods, &constructor);
	napi_set_named_property(env, exports, "Poll", constructor);
}
