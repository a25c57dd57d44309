/*
 * Descriptors that JavaScript knows by their numbers alone, and that must not outlive it. A worker thread that is
 * terminated runs no JavaScript any more: an open socket to CRIU would hold a tree in its hands for as long as the
 * process lives.
 */
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* Linux 5.4; older C libraries do not name it */
#endif

#define REAPER_STACK (256 * 1024)

struct held {
	int fd;
	bool is_child;
	struct held *next;
};

/* One list for each environment, which is one thread's. */
struct holder {
	struct held *first;
};

static void *reap_one(void *arg)
{
	int pidfd = (int)(intptr_t)arg;
	siginfo_t end;

	/* uv_poll has made it non-blocking, and waitid() does not wait then (Linux 5.10). */
	fcntl(pidfd, F_SETFL, 0);
	while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &end, WEXITED) != 0 && errno == EINTR) {
	}
	close(pidfd);
	return NULL;
}

/*
 * A child that its thread leaves would be a zombie for as long as the process lives: libuv waits only for its own.
 * False when there is no thread for it.
 */
static bool leave_to_reaper(int pidfd)
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, old;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, REAPER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&thread, &attributes, reap_one, (void *)(intptr_t)pidfd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attributes);
	return err == 0;
}

static void close_all(napi_env env, void *data, void *hint)
{
	struct holder *holder = data;
	struct held *next;

	for (struct held *held = holder->first; held; held = next) {
		next = held->next;
		if (!held->is_child || !leave_to_reaper(held->fd))
			close(held->fd);
		free(held);
	}
	free(holder);
}

static int hold_as(napi_env env, int fd, bool is_child)
{
	void *holder = NULL;
	struct held *held = malloc(sizeof(*held));

	if (!held || napi_get_instance_data(env, &holder) != napi_ok || !holder) {
		free(held);
		return ENOMEM;
	}
	held->fd = fd;
	held->is_child = is_child;
	held->next = ((struct holder *)holder)->first;
	((struct holder *)holder)->first = held;
	return 0;
}

int sf_hold_fd(napi_env env, int fd)
{
	return hold_as(env, fd, false);
}

int sf_hold_child(napi_env env, int pidfd)
{
	return hold_as(env, pidfd, true);
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

static bool is_held(napi_env env, int fd)
{
	void *holder = NULL;

	napi_get_instance_data(env, &holder);
	for (struct held *held = holder ? ((struct holder *)holder)->first : NULL; held; held = held->next)
		if (held->fd == fd)
			return true;
	return false;
}

static napi_value hold_fd(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1;
	int fd, err;

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &fd) != napi_ok) {
		napi_throw_type_error(env, NULL, "hold(fd)");
		return NULL;
	}
	/* Once: it is closed once, and then the number may be somebody else's. */
	err = is_held(env, fd) ? 0 : sf_hold_fd(env, fd);
	return err ? sf_throw_errno(env, err, "malloc") : NULL;
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
	sf_set_function(env, exports, "hold", hold_fd);
	sf_set_function(env, exports, "close", close_fd);
}
