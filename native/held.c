/*
 * Descriptors that JavaScript knows by their numbers alone, and that must not outlive it. A worker thread that is terminated
 * runs no JavaScript any more: an open socket to CRIU would hold a tree in its hands for as long as the process lives.
 */
#include "addon.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct held {
	int fd;
	struct held *next;
};

/* One list for each environment, which is one thread's. */
struct holder {
	struct held *first;
};

static void close_all(napi_env env, void *data, void *hint)
{
	struct holder *holder = data;
	struct held *next;

	for (struct held *held = holder->first; held; held = next) {
		next = held->next;
		close(held->fd);
		free(held);
	}
	free(holder);
}

int sf_hold_fd(napi_env env, int fd)
{
	void *holder = NULL;
	struct held *held = malloc(sizeof(*held));

	if (!held || napi_get_instance_data(env, &holder) != napi_ok || !holder) {
		free(held);
		return ENOMEM;
	}
	held->fd = fd;
	held->next = ((struct holder *)holder)->first;
	((struct holder *)holder)->first = held;
	return 0;
}

void sf_close_fd(napi_env env, int fd)
{
	void *holder = NULL;

	napi_get_instance_data(env, &holder);
	for (struct held **at = holder ? &((struct holder *)holder)->first : NULL; at && *at; at = &(*at)->next) {
		if ((*at)->fd == fd) {
			struct held *held = *at;

			*at = held->next;
			free(held);
			break;
		}
	}
	close(fd);
}

int sf_hold_pair(napi_env env, const int *fds)
{
	int err = sf_hold_fd(env, fds[0]);

	if (err) {
		close(fds[0]);
		close(fds[1]);
	} else if ((err = sf_hold_fd(env, fds[1]))) {
		sf_close_fd(env, fds[0]);
		close(fds[1]);
	}
	return err;
}

static napi_value close_fd(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1;
	int fd;

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &fd) != napi_ok) {
		napi_throw_type_error(env, NULL, "close(fd)");
		return NULL;
	}
	sf_close_fd(env, fd);
	return NULL;
}

void sf_init_held(napi_env env, napi_value exports)
{
	struct holder *holder = calloc(1, sizeof(*holder));

	if (holder && napi_set_instance_data(env, holder, close_all, NULL) != napi_ok)
		free(holder);
	sf_set_function(env, exports, "close", close_fd);
}
