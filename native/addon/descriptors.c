/*
 * What can be known of other processes' descriptors only by having them: the options of sockets, and whether something
 * waits to be read. They are borrowed for a moment (pidfd_getfd(2)), and nothing is changed or read through them.
 */
#include "job.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In place of a level: bytes to read (FIONREAD), and memberships in any of the groups. */
#define WAITING (-1)
#define MEMBER (-2)
/* When an option counts: else the kernel sets it by itself. */
#define UNCONNECTED 1
#define LISTENING 2
#define DATAGRAMS 3

struct option {
	int32_t level, number, when;
};

/* A multicast group that an interface has members of; the address in network order. */
struct group {
	int32_t family, interface;
	uint8_t address[16];
};

struct descriptors_job {
	struct sf_job job;
	int32_t pid;
	const int32_t *fds;
	size_t n_fds;
	const struct option *options;
	size_t n_options;
	const struct group *groups;
	size_t n_groups;
	/* For each descriptor a byte for each option: whether it is not as on a new socket. */
	uint8_t *differs;
};

/* A new socket of the same kind, to compare with: the last one that was asked for. */
struct fresh {
	int domain, type, protocol, fd;
};

static int number_of(int fd, int number)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, number, &value, &size) < 0 ? -1 : value;
}

static int like(struct fresh *fresh, int fd)
{
	int domain = number_of(fd, SO_DOMAIN), type = number_of(fd, SO_TYPE), protocol = number_of(fd, SO_PROTOCOL);

	if (fresh->fd >= 0 && fresh->domain == domain && fresh->type == type && fresh->protocol == protocol)
		return fresh->fd;
	if (fresh->fd >= 0)
		close(fresh->fd);
	*fresh = (struct fresh){ domain, type, protocol, domain < 0 ? -1 : socket(domain, type | SOCK_CLOEXEC, protocol) };
	return fresh->fd;
}

static bool is_set(int fd, int fresh, const struct option *option)
{
	uint8_t has[64] = { 0 }, usual[64] = { 0 };
	socklen_t has_size = sizeof(has), usual_size = sizeof(usual);

	return getsockopt(fd, option->level, option->number, has, &has_size) == 0 &&
		getsockopt(fresh, option->level, option->number, usual, &usual_size) == 0 &&
		(has_size != usual_size || memcmp(has, usual, has_size) != 0);
}

/* Asks for the sources that a member has left out, which fails for who is none (net/ipv4/igmp.c, ip_mc_gsfget). */
static bool is_member(int fd, const struct group *group)
{
	struct group_filter filter = { .gf_interface = group->interface };
	socklen_t size = sizeof(filter);

	filter.gf_group.ss_family = group->family;
	if (group->family == AF_INET)
		memcpy(&((struct sockaddr_in *)&filter.gf_group)->sin_addr, group->address, sizeof(struct in_addr));
	else
		memcpy(&((struct sockaddr_in6 *)&filter.gf_group)->sin6_addr, group->address, sizeof(struct in6_addr));
	return getsockopt(fd, group->family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_MSFILTER, &filter, &size) == 0;
}

static bool is_member_of_any(int fd, const struct descriptors_job *job)
{
	for (size_t i = 0; i < job->n_groups; i++)
		if (is_member(fd, &job->groups[i]))
			return true;
	return false;
}

/* Of the sockets only those whose packets nothing else tells of. */
static bool has_waiting(int fd)
{
	int domain = number_of(fd, SO_DOMAIN), bytes = 0;
	bool counts = domain < 0 || domain == AF_PACKET ||
		((domain == AF_INET || domain == AF_INET6) && number_of(fd, SO_TYPE) == SOCK_RAW);

	return counts && ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

static void look_at(const struct descriptors_job *job, int fd, struct fresh *fresh, uint8_t *differs)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	bool is_connected = getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
	bool is_listening = number_of(fd, SO_ACCEPTCONN) == 1;
	int type = number_of(fd, SO_TYPE), usual = like(fresh, fd);

	for (size_t i = 0; i < job->n_options; i++) {
		const struct option *option = &job->options[i];

		if ((option->when == UNCONNECTED && is_connected) || (option->when == LISTENING && !is_listening) ||
			(option->when == DATAGRAMS && type != SOCK_DGRAM))
			continue;
		if (option->level == WAITING)
			differs[i] = has_waiting(fd);
		else if (option->level == MEMBER)
			differs[i] = is_member_of_any(fd, job);
		else if (usual >= 0)
			differs[i] = is_set(fd, usual, option);
	}
}

/* New sockets have the options of their network namespace. */
static bool enter_network_of(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	FILE *ns = fopen(path, "re");
	bool entered = ns && setns(fileno(ns), CLONE_NEWNET) == 0;
	if (ns)
		fclose(ns);
	return entered;
}

static void *look(void *arg)
{
	struct descriptors_job *job = arg;
	struct fresh fresh = { .fd = -1 };
	int process = (int)syscall(SYS_pidfd_open, job->pid, 0);

	if (process < 0 || !enter_network_of(job->pid)) {
		job->job.err = errno;
		if (process >= 0)
			close(process);
		return NULL;
	}
	for (size_t i = 0; i < job->n_fds; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, process, job->fds[i], 0);

		if (fd < 0)
			continue;
		look_at(job, fd, &fresh, job->differs + i * job->n_options);
		close(fd);
	}
	if (fresh.fd >= 0)
		close(fresh.fd);
	close(process);
	return NULL;
}

/* In a thread that ends with it: it leaves the network namespace of the process. */
static void run(struct sf_job *job)
{
	pthread_t thread;

	job->err = pthread_create(&thread, NULL, look, job);
	if (!job->err)
		pthread_join(thread, NULL);
}

static void release(struct sf_job *job)
{
	free(job);
}

static size_t array_at(napi_env env, napi_value value, napi_typedarray_type want, void **data)
{
	napi_typedarray_type type;
	napi_value buffer;
	size_t length, offset;

	if (napi_get_typedarray_info(env, value, &type, &length, data, &buffer, &offset) != napi_ok || type != want)
		return SIZE_MAX;
	return length;
}

static napi_value look_at_descriptors(napi_env env, napi_callback_info info)
{
	napi_value at[5];
	size_t count = 5;
	void *fds, *options, *groups, *differs;
	struct descriptors_job *job;

	napi_get_cb_info(env, info, &count, at, NULL, NULL);
	job = calloc(1, sizeof(*job));
	if (!job)
		return sf_throw_errno(env, ENOMEM, "pidfd_getfd");
	if (count == 5 && napi_get_value_int32(env, at[0], &job->pid) == napi_ok) {
		size_t n_fds = array_at(env, at[1], napi_int32_array, &fds);
		size_t n_options = array_at(env, at[2], napi_int32_array, &options);
		size_t n_groups = array_at(env, at[3], napi_uint8_array, &groups);
		size_t n_differs = array_at(env, at[4], napi_uint8_array, &differs);

		if (n_fds != SIZE_MAX && n_options != SIZE_MAX && n_groups != SIZE_MAX && n_options % 3 == 0 &&
			n_groups % sizeof(struct group) == 0 && n_differs == n_fds * (n_options / 3)) {
			job->fds = fds;
			job->n_fds = n_fds;
			job->options = options;
			job->n_options = n_options / 3;
			job->groups = groups;
			job->n_groups = n_groups / sizeof(struct group);
			job->differs = differs;
			job->job.run = run;
			job->job.release = release;
			return sf_job_start(env, &job->job, "pidfd_getfd", at + 1, 4);
		}
	}
	free(job);
	napi_throw_type_error(env, NULL, "a pid, descriptors, options of three numbers, groups, and room for the answers");
	return NULL;
}

void sf_init_descriptors(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "lookAtDescriptors", look_at_descriptors);
}
