/* A socket pair that keeps packets whole, and packets with file descriptors on it. */
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The kernel's own limit for one message (SCM_MAX_FD, include/net/scm.h). */
#define MAX_FDS 253

union control {
	char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	struct cmsghdr align;
};

static napi_value number(napi_env env, int value)
{
	napi_value result;

	napi_create_int32(env, value, &result);
	return result;
}

static void close_all(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

static napi_value number_array(napi_env env, const int *values, size_t count)
{
	napi_value array;

	napi_create_array_with_length(env, count, &array);
	for (size_t i = 0; i < count; i++)
		napi_set_element(env, array, i, number(env, values[i]));
	return array;
}

static napi_value make_pair(napi_env env, int type)
{
	int fds[2], err;

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds))
		return sf_throw_errno(env, errno, "socketpair");
	/* A property of this end's open file: the other end keeps blocking, as CRIU needs it. */
	if (fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) | O_NONBLOCK)) {
		err = errno;
		close_all(fds, 2);
		return sf_throw_errno(env, err, "fcntl");
	}
	/* Streams become net.Sockets, which libuv closes. */
	if (type == SOCK_SEQPACKET && (err = sf_hold_pair(env, fds)))
		return sf_throw_errno(env, err, "malloc");
	return number_array(env, fds, 2);
}

static napi_value socketpair_seqpacket(napi_env env, napi_callback_info info)
{
	/* And not DGRAM: only a connection tells CRIU that its client is gone. */
	return make_pair(env, SOCK_SEQPACKET);
}

static napi_value socketpair_stream(napi_env env, napi_callback_info info)
{
	return make_pair(env, SOCK_STREAM);
}

static napi_value connect_unix(napi_env env, napi_callback_info info, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	napi_value arg;
	size_t argc = 1, length = 0;
	int fd, err;

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_string_utf8(env, arg, NULL, 0, &length) != napi_ok)
		return sf_throw_errno(env, EINVAL, "connect");
	if (length >= sizeof(address.sun_path))
		return sf_throw_errno(env, ENAMETOOLONG, "connect");
	napi_get_value_string_utf8(env, arg, address.sun_path, sizeof(address.sun_path), NULL);
	/* Non-blocking before the connect: a service that does not accept would hold the event loop. */
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return sf_throw_errno(env, errno, "socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		err = errno;
		close(fd);
		return sf_throw_errno(env, err, "connect");
	}
	err = sf_hold_fd(env, fd);
	if (err) {
		close(fd);
		return sf_throw_errno(env, err, "malloc");
	}
	return number(env, fd);
}

static napi_value connect_seqpacket(napi_env env, napi_callback_info info)
{
	return connect_unix(env, info, SOCK_SEQPACKET);
}

static napi_value connect_stream(napi_env env, napi_callback_info info)
{
	return connect_unix(env, info, SOCK_STREAM);
}

/* Not only ours: O_NONBLOCK is a property of the open file, whoever shares it. */
static napi_value set_blocking(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1;
	int fd, flags;

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &fd) != napi_ok) {
		napi_throw_type_error(env, NULL, "setBlocking(fd)");
		return NULL;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK))
		return sf_throw_errno(env, errno, "fcntl");
	return NULL;
}

/* Reads a JavaScript array of descriptors. Returns their number, or -1 when it is none or too long. */
static int read_fds(napi_env env, napi_value array, int *fds)
{
	uint32_t length;

	if (napi_get_array_length(env, array, &length) != napi_ok || length > MAX_FDS)
		return -1;
	for (uint32_t i = 0; i < length; i++) {
		napi_value element;

		napi_get_element(env, array, i, &element);
		if (napi_get_value_int32(env, element, &fds[i]) != napi_ok)
			return -1;
	}
	return length;
}

static napi_value send_message(napi_env env, napi_callback_info info)
{
	napi_value args[3], result;
	size_t argc = 3;
	int fd, count, fds[MAX_FDS];
	bool sent;
	struct iovec iov;
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control;

	napi_get_cb_info(env, info, &argc, args, NULL, NULL);
	if (argc < 3 || napi_get_value_int32(env, args[0], &fd) != napi_ok ||
		napi_get_typedarray_info(env, args[1], NULL, &iov.iov_len, &iov.iov_base, NULL, NULL) != napi_ok ||
		(count = read_fds(env, args[2], fds)) < 0) {
		napi_throw_type_error(env, NULL, "sendmsg(fd, Uint8Array, at most 253 descriptors)");
		return NULL;
	}
	if (count > 0) {
		struct cmsghdr *header;

		memset(&control, 0, sizeof(control));
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	/* NOSIGNAL: a peer that is gone is an error here, never a SIGPIPE for the whole process. */
	sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
	if (!sent && errno != EAGAIN)
		return sf_throw_errno(env, errno, "sendmsg");
	napi_get_boolean(env, sent, &result);
	return result;
}

/* Copies the descriptors of a received message into fds, whatever else the message holds. */
static size_t received_fds(struct msghdr *message, int *fds)
{
	size_t count = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		size_t length;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		length = header->cmsg_len - CMSG_LEN(0);
		memcpy(fds + count, CMSG_DATA(header), length);
		count += length / sizeof(int);
	}
	return count;
}

static napi_value receive_message(napi_env env, napi_callback_info info)
{
	napi_value args[2], data, result;
	size_t argc = 2, count;
	int fd, err, fds[MAX_FDS];
	int64_t max_bytes;
	ssize_t length;
	struct iovec iov = { 0 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control;

	napi_get_cb_info(env, info, &argc, args, NULL, NULL);
	if (argc < 2 || napi_get_value_int32(env, args[0], &fd) != napi_ok ||
		napi_get_value_int64(env, args[1], &max_bytes) != napi_ok) {
		napi_throw_type_error(env, NULL, "recvmsg(fd, maxBytes)");
		return NULL;
	}
	length = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
	if (length < 0 && errno == EAGAIN)
		return NULL;
	if (length < 0)
		return sf_throw_errno(env, errno, "recvmsg");
	if (length > max_bytes)
		return sf_throw_errno(env, EMSGSIZE, "recvmsg");
	if (napi_create_buffer(env, length, &iov.iov_base, &data) != napi_ok)
		return sf_throw_errno(env, ENOMEM, "malloc");
	iov.iov_len = length;
	message.msg_control = control.bytes;
	message.msg_controllen = sizeof(control.bytes);
	length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length < 0)
		return sf_throw_errno(env, errno, "recvmsg");
	count = received_fds(&message, fds);
	/* Cut data or lost descriptors: another reader took the packet that was measured, or the table is full. */
	err = message.msg_flags & MSG_CTRUNC ? EMFILE : (size_t)length != iov.iov_len ? EPROTO : 0;
	if (err) {
		close_all(fds, count);
		return sf_throw_errno(env, err, "recvmsg");
	}
	napi_create_object(env, &result);
	napi_set_named_property(env, result, "data", data);
	napi_set_named_property(env, result, "fds", number_array(env, fds, count));
	return result;
}

void sf_init_socket(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "socketpairSeqpacket", socketpair_seqpacket);
	sf_set_function(env, exports, "socketpairStream", socketpair_stream);
	sf_set_function(env, exports, "connectSeqpacket", connect_seqpacket);
	sf_set_function(env, exports, "connectStream", connect_stream);
	sf_set_function(env, exports, "setBlocking", set_blocking);
	sf_set_function(env, exports, "sendmsg", send_message);
	sf_set_function(env, exports, "recvmsg", receive_message);
}
