/* Sockets: what is in their queues, and what has been set on them. */
#include "row.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

static void say_message(int fd)
{
	char text[64] = "";
	ssize_t got = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	say("[%zd %s]", got, text);
}

static int ustream[2], udgram[2], upacket[2], urights[2], ushut[2], ucred[2];
SET(unix_stream_queue)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ustream));
	must(send(ustream[1], "one", 3, 0));
	must(send(ustream[1], "two", 3, 0));
}
GET(unix_stream_queue)
{
	say_message(ustream[0]);
}
SET(unix_datagram_queue)
{
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, udgram));
	must(send(udgram[1], "one", 3, 0));
	must(send(udgram[1], "", 0, 0));
	must(send(udgram[1], "two", 3, 0));
}
GET(unix_datagram_queue)
{
	for (int i = 0; i < 3; i++)
		say_message(udgram[0]);
}
SET(unix_seqpacket_queue)
{
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, upacket));
	must(send(upacket[1], "one", 3, 0));
	must(send(upacket[1], "two", 3, 0));
}
GET(unix_seqpacket_queue)
{
	say_message(upacket[0]);
	say_message(upacket[0]);
}
SET(unix_descriptor_in_flight)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec data = { "x", 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	int fd = new_file("in_flight", 77);

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, urights));
	must(sendmsg(urights[1], &message, 0));
	close(fd);
}
GET(unix_descriptor_in_flight)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte;
	struct iovec data = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct stat st = { 0 };
	int fd = -1;

	if (recvmsg(urights[0], &message, MSG_DONTWAIT) == 1 && message.msg_controllen > 0) {
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
		fstat(fd, &st);
	}
	say("%s of %ld bytes", fd < 0 ? "none" : "one", (long)st.st_size);
}
SET(unix_credentials_in_flight)
{
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, ucred));
	must(setsockopt(ucred[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)));
	must(send(ucred[1], "who", 3, 0));
}
GET(unix_credentials_in_flight)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control = { 0 };
	char text[8];
	struct iovec data = { text, sizeof(text) };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct ucred from = { 0 };

	if (recvmsg(ucred[0], &message, MSG_DONTWAIT) == 3 && message.msg_controllen > 0)
		memcpy(&from, CMSG_DATA(&control.header), sizeof(from));
	say("from %s", from.pid == getpid() ? "me" : from.pid == 0 ? "nobody" : "another");
}
SET(unix_shut_down)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ushut));
	must(send(ushut[1], "rest", 4, 0));
	must(shutdown(ushut[1], SHUT_WR));
}
GET(unix_shut_down)
{
	say_message(ushut[0]);
	say_message(ushut[0]);
	say("%d", (int)send(ushut[0], "back", 4, MSG_NOSIGNAL));
}
static int ulisten;
static struct sockaddr_un unix_address(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path_of(name));
	return address;
}
SET(unix_listener)
{
	struct sockaddr_un address = unix_address("listener");

	ulisten = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(bind(ulisten, (void *)&address, sizeof(address)));
	must(listen(ulisten, 9));
}
GET(unix_listener)
{
	struct sockaddr_un address = unix_address("listener");
	int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));

	say("%d", connect(fd, (void *)&address, sizeof(address)) == 0);
}
static int uwaiting;
SET(unix_connection_waiting)
{
	struct sockaddr_un address = unix_address("waiting");
	int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));

	uwaiting = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(bind(uwaiting, (void *)&address, sizeof(address)));
	must(listen(uwaiting, 9));
	must(connect(fd, (void *)&address, sizeof(address)));
}
GET(unix_connection_waiting)
{
	say("%d", accept4(uwaiting, NULL, NULL, SOCK_NONBLOCK) >= 0);
}
static int upeer[2];
SET(unix_peer_credentials)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, upeer));
}
GET(unix_peer_credentials)
{
	struct ucred peer = { 0 };

	must(getsockopt(upeer[0], SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){ sizeof(peer) }));
	say("%s %d", peer.pid == getpid() ? "me" : "another", peer.uid);
}
static int upeek[2];
SET(unix_peek_offset)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, upeek));
	must(send(upeek[1], "abcdef", 6, 0));
	must(setsockopt(upeek[0], SOL_SOCKET, SO_PEEK_OFF, &(int){ 2 }, sizeof(int)));
}
GET(unix_peek_offset)
{
	int offset = -2;

	must(getsockopt(upeek[0], SOL_SOCKET, SO_PEEK_OFF, &offset, &(socklen_t){ sizeof(offset) }));
	say("%d", offset);
}

/* Options: each is set on a socket of its own kind, and all are read back. */
struct option {
	const char *name;
	int level, number, value;
};
static const struct option common_options[] = {
	{ "REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1 },
	{ "REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1 },
	{ "KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ "OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1 },
	{ "PRIORITY", SOL_SOCKET, SO_PRIORITY, 5 },
	{ "MARK", SOL_SOCKET, SO_MARK, 7 },
	{ "RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 3 },
	{ "DONTROUTE", SOL_SOCKET, SO_DONTROUTE, 1 },
	{ "SNDBUF", SOL_SOCKET, SO_SNDBUF, 30000 },
	{ "RCVBUF", SOL_SOCKET, SO_RCVBUF, 40000 },
	{ "TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1 },
	{ "MAX_PACING_RATE", SOL_SOCKET, SO_MAX_PACING_RATE, 1000000 },
	{ "BUF_LOCK", SOL_SOCKET, SO_BUF_LOCK, 3 },
	{ "BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL, 20 },
	{ "RXQ_OVFL", SOL_SOCKET, SO_RXQ_OVFL, 1 },
	{ "ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, 1 },
	/* Of a connection the kernel sets it itself. */
	{ "INCOMING_CPU", SOL_SOCKET, SO_INCOMING_CPU, 1 },
};
static const struct option ip_options[] = {
	{ "IP_TOS", IPPROTO_IP, IP_TOS, 16 },
	{ "IP_TTL", IPPROTO_IP, IP_TTL, 33 },
	{ "IP_FREEBIND", IPPROTO_IP, IP_FREEBIND, 1 },
	{ "IP_PKTINFO", IPPROTO_IP, IP_PKTINFO, 1 },
	{ "IP_RECVERR", IPPROTO_IP, IP_RECVERR, 1 },
	{ "IP_MTU_DISCOVER", IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO },
	{ "IP_BIND_ADDRESS_NO_PORT", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1 },
	{ "IP_TRANSPARENT", IPPROTO_IP, IP_TRANSPARENT, 1 },
	{ "IP_RECVTTL", IPPROTO_IP, IP_RECVTTL, 1 },
	{ "IP_RECVTOS", IPPROTO_IP, IP_RECVTOS, 1 },
	{ "IP_MULTICAST_TTL", IPPROTO_IP, IP_MULTICAST_TTL, 3 },
	{ "IP_MULTICAST_LOOP", IPPROTO_IP, IP_MULTICAST_LOOP, 0 },
};
static const struct option tcp_options[] = {
	{ "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1 },
	{ "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 111 },
	{ "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 22 },
	{ "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 3 },
	{ "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 44000 },
	{ "TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, 7 },
	{ "TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, 4 },
	{ "TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2, 13 },
	{ "TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000 },
	{ "TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG, 800 },
	{ "TCP_WINDOW_CLAMP", IPPROTO_TCP, TCP_WINDOW_CLAMP, 30000 },
	{ "TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, 5 },
	{ "TCP_THIN_LINEAR_TIMEOUTS", IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1 },
};
static const struct option udp_options[] = {
	{ "BROADCAST", SOL_SOCKET, SO_BROADCAST, 1 },
	{ "NO_CHECK", SOL_SOCKET, SO_NO_CHECK, 1 },
	{ "UDP_SEGMENT", IPPROTO_UDP, 103, 500 },
	{ "UDP_GRO", IPPROTO_UDP, 104, 1 },
};
static const struct option ipv6_options[] = {
	{ "IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY, 1 },
	{ "IPV6_RECVPKTINFO", IPPROTO_IPV6, IPV6_RECVPKTINFO, 1 },
	{ "IPV6_UNICAST_HOPS", IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9 },
	{ "IPV6_TCLASS", IPPROTO_IPV6, IPV6_TCLASS, 8 },
	{ "IPV6_FREEBIND", IPPROTO_IPV6, 78, 1 },
};
static const struct option unix_options[] = {
	{ "PASSCRED", SOL_SOCKET, SO_PASSCRED, 1 },
	{ "PASSSEC", SOL_SOCKET, SO_PASSSEC, 1 },
	{ "PASSPIDFD", SOL_SOCKET, 76, 1 },
	{ "SNDBUF", SOL_SOCKET, SO_SNDBUF, 30000 },
	{ "RCVBUF", SOL_SOCKET, SO_RCVBUF, 40000 },
};
#define N(options) (sizeof(options) / sizeof((options)[0]))
static void set_options(int fd, const struct option *options, size_t count)
{
	for (size_t i = 0; i < count; i++)
		setsockopt(fd, options[i].level, options[i].number, &options[i].value, sizeof(int));
}
static void say_options(int fd, const struct option *options, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int value = -1;

		if (getsockopt(fd, options[i].level, options[i].number, &value, &(socklen_t){ sizeof(value) }) == 0)
			say("%s=%d ", options[i].name, value);
	}
}
static int inet_socket(int family, int type)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 address6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = must(socket(family, type, 0));

	must(family == AF_INET ? bind(fd, (void *)&address, sizeof(address))
						   : bind(fd, (void *)&address6, sizeof(address6)));
	return fd;
}
static int tcp_listener, tcp_plain, udp_plain, tcp6_listener, uoptions[2];
SET(options_tcp_listener)
{
	tcp_listener = must(socket(AF_INET, SOCK_STREAM, 0));
	set_options(tcp_listener, common_options, N(common_options));
	set_options(tcp_listener, ip_options, N(ip_options));
	set_options(tcp_listener, tcp_options, N(tcp_options));
	must(bind(tcp_listener, (void *)&(struct sockaddr_in){ .sin_family = AF_INET }, sizeof(struct sockaddr_in)));
	must(listen(tcp_listener, 17));
}
GET(options_tcp_listener)
{
	say_options(tcp_listener, common_options, N(common_options));
	say_options(tcp_listener, ip_options, N(ip_options));
	say_options(tcp_listener, tcp_options, N(tcp_options));
}
SET(options_tcp_unconnected)
{
	tcp_plain = must(socket(AF_INET, SOCK_STREAM, 0));
	set_options(tcp_plain, tcp_options, N(tcp_options) - 2);
}
GET(options_tcp_unconnected)
{
	say_options(tcp_plain, tcp_options, N(tcp_options) - 2);
}
SET(options_udp)
{
	udp_plain = must(socket(AF_INET, SOCK_DGRAM, 0));
	set_options(udp_plain, common_options, N(common_options));
	set_options(udp_plain, ip_options, N(ip_options));
	set_options(udp_plain, udp_options, N(udp_options));
	must(bind(udp_plain, (void *)&(struct sockaddr_in){ .sin_family = AF_INET }, sizeof(struct sockaddr_in)));
}
GET(options_udp)
{
	say_options(udp_plain, common_options, N(common_options));
	say_options(udp_plain, ip_options, N(ip_options));
	say_options(udp_plain, udp_options, N(udp_options));
}
SET(options_ipv6)
{
	tcp6_listener = must(socket(AF_INET6, SOCK_STREAM, 0));
	set_options(tcp6_listener, ipv6_options, N(ipv6_options));
	must(bind(tcp6_listener, (void *)&(struct sockaddr_in6){ .sin6_family = AF_INET6 }, sizeof(struct sockaddr_in6)));
	must(listen(tcp6_listener, 5));
}
GET(options_ipv6)
{
	say_options(tcp6_listener, ipv6_options, N(ipv6_options));
}
SET(options_unix)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, uoptions));
	set_options(uoptions[0], unix_options, N(unix_options));
}
GET(options_unix)
{
	say_options(uoptions[0], unix_options, N(unix_options));
}
static int structured;
SET(options_structured)
{
	structured = inet_socket(AF_INET, SOCK_STREAM);
	must(setsockopt(structured, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 33 }, sizeof(struct linger)));
	must(setsockopt(structured, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ 12, 0 }, sizeof(struct timeval)));
	must(setsockopt(structured, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ 13, 0 }, sizeof(struct timeval)));
	must(setsockopt(structured, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	must(setsockopt(structured, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	must(listen(structured, 5));
}
GET(options_structured)
{
	struct linger linger = { 0 };
	struct timeval in = { 0 }, out = { 0 };
	char congestion[16] = "", device[16] = "";

	getsockopt(structured, SOL_SOCKET, SO_LINGER, &linger, &(socklen_t){ sizeof(linger) });
	getsockopt(structured, SOL_SOCKET, SO_RCVTIMEO, &in, &(socklen_t){ sizeof(in) });
	getsockopt(structured, SOL_SOCKET, SO_SNDTIMEO, &out, &(socklen_t){ sizeof(out) });
	getsockopt(structured, IPPROTO_TCP, TCP_CONGESTION, congestion, &(socklen_t){ sizeof(congestion) });
	getsockopt(structured, SOL_SOCKET, SO_BINDTODEVICE, device, &(socklen_t){ sizeof(device) });
	say("LINGER=%d,%d RCVTIMEO=%ld SNDTIMEO=%ld TCP_CONGESTION=%s BINDTODEVICE=%s", linger.l_onoff, linger.l_linger,
		(long)in.tv_sec, (long)out.tv_sec, congestion, device);
}
static int filtered;
SET(socket_filter)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, 2) };
	struct sock_fprog program = { 1, code };

	filtered = inet_socket(AF_INET, SOCK_DGRAM);
	must(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)));
}
GET(socket_filter)
{
	say("%d",
		getsockopt(filtered, SOL_SOCKET, SO_GET_FILTER, NULL, &(socklen_t){ 0 }) == 0 &&
			setsockopt(filtered, SOL_SOCKET, SO_DETACH_FILTER, NULL, 0) == 0);
}
static int backlog;
SET(tcp_backlog)
{
	backlog = inet_socket(AF_INET, SOCK_STREAM);
	must(listen(backlog, 23));
}
GET(tcp_backlog)
{
	struct tcp_info info = { 0 };

	must(getsockopt(backlog, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t){ sizeof(info) }));
	say("%u", info.tcpi_sacked);
}
static int udp_queue;
static void send_to_self(int fd, const char *text)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	must(getsockname(fd, (void *)&address, &size));
	must(sendto(fd, text, strlen(text), 0, (void *)&address, size));
}
SET(udp_queue)
{
	udp_queue = inet_socket(AF_INET, SOCK_DGRAM);
	send_to_self(udp_queue, "datagram");
}
GET(udp_queue)
{
	say_message(udp_queue);
}
static int udp_connected;
SET(udp_connected)
{
	udp_connected = inet_socket(AF_INET, SOCK_DGRAM);
	must(connect(udp_connected, (void *)&(struct sockaddr_in){ AF_INET, htons(9), { htonl(INADDR_LOOPBACK) }, { 0 } },
		sizeof(struct sockaddr_in)));
}
GET(udp_connected)
{
	struct sockaddr_in peer = { 0 };

	getpeername(udp_connected, (void *)&peer, &(socklen_t){ sizeof(peer) });
	say("%d", ntohs(peer.sin_port));
}
static int multicast;
SET(udp_multicast_membership)
{
	struct ip_mreqn group = { { inet_addr("239.1.2.3") }, { htonl(INADDR_LOOPBACK) }, 1 };

	multicast = inet_socket(AF_INET, SOCK_DGRAM);
	must(setsockopt(multicast, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)));
}
/* Leaving succeeds for a member only. */
GET(udp_multicast_membership)
{
	struct ip_mreqn group = { { inet_addr("239.1.2.3") }, { htonl(INADDR_LOOPBACK) }, 1 };

	say("%d", setsockopt(multicast, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof(group)) == 0);
}
static int multicast6;
SET(udp6_multicast_membership)
{
	struct ipv6_mreq group = { .ipv6mr_interface = 1 };

	inet_pton(AF_INET6, "ff05::1:3", &group.ipv6mr_multiaddr);
	multicast6 = inet_socket(AF_INET6, SOCK_DGRAM);
	must(setsockopt(multicast6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof(group)));
}
GET(udp6_multicast_membership)
{
	struct ipv6_mreq group = { .ipv6mr_interface = 1 };

	inet_pton(AF_INET6, "ff05::1:3", &group.ipv6mr_multiaddr);
	say("%d", setsockopt(multicast6, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &group, sizeof(group)) == 0);
}
static int corked;
SET(udp_corked_data)
{
	corked = inet_socket(AF_INET, SOCK_DGRAM);
	must(setsockopt(corked, IPPROTO_UDP, UDP_CORK, &(int){ 1 }, sizeof(int)));
	send_to_self(corked, "corked");
}
GET(udp_corked_data)
{
	setsockopt(corked, IPPROTO_UDP, UDP_CORK, &(int){ 0 }, sizeof(int));
	say_message(corked);
}
static int connection[2];
static void make_connection_of(int family, int ends[2])
{
	int listener = inet_socket(family, SOCK_STREAM);
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	must(listen(listener, 1));
	must(getsockname(listener, (void *)&address, &size));
	ends[0] = must(socket(family, SOCK_STREAM, 0));
	must(connect(ends[0], (void *)&address, size));
	ends[1] = must(accept(listener, NULL, NULL));
	close(listener);
}
static void make_connection(int ends[2])
{
	make_connection_of(AF_INET, ends);
}
static int connection6[2];
SET(tcp6_connection)
{
	make_connection_of(AF_INET6, connection6);
	must(send(connection6[0], "sent", 4, 0));
}
GET(tcp6_connection)
{
	say_message(connection6[1]);
}
SET(tcp_connection)
{
	make_connection(connection);
	must(send(connection[0], "sent", 4, 0));
}
GET(tcp_connection)
{
	say_message(connection[1]);
	say("%zd", send(connection[1], "more", 4, MSG_NOSIGNAL));
	usleep(20000);
	say_message(connection[0]);
}
static int urgent[2];
SET(tcp_urgent_data)
{
	make_connection(urgent);
	must(send(urgent[0], "u", 1, MSG_OOB));
	usleep(10000);
}
GET(tcp_urgent_data)
{
	char byte = 0;

	say("%zd %c", recv(urgent[1], &byte, 1, MSG_OOB | MSG_DONTWAIT), byte ? byte : '-');
}
static int half[2];
SET(tcp_half_closed)
{
	make_connection(half);
	must(send(half[0], "rest", 4, 0));
	must(shutdown(half[0], SHUT_WR));
	usleep(10000);
}
GET(tcp_half_closed)
{
	say_message(half[1]);
	say_message(half[1]);
	say("%zd", send(half[1], "back", 4, MSG_NOSIGNAL));
}
static int set_up[2];
SET(options_tcp_connection)
{
	make_connection(set_up);
	set_options(set_up[0], common_options, N(common_options) - 1);
	set_options(set_up[0], ip_options, N(ip_options));
	set_options(set_up[0], tcp_options, N(tcp_options) - 2);
}
GET(options_tcp_connection)
{
	say_options(set_up[0], common_options, N(common_options) - 1);
	say_options(set_up[0], ip_options, N(ip_options));
	say_options(set_up[0], tcp_options, N(tcp_options) - 2);
}
static int route, packet, raw;
SET(netlink)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	route = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	must(bind(route, (void *)&address, sizeof(address)));
}
GET(netlink)
{
	struct sockaddr_nl address = { 0 };

	must(getsockname(route, (void *)&address, &(socklen_t){ sizeof(address) }));
	say("%s %x", address.nl_pid == (uint32_t)getpid() ? "mine" : "another's", address.nl_groups);
}
SET(packet_socket)
{
	packet = must(socket(AF_PACKET, SOCK_RAW, htons(0x88b5)));
}
GET(packet_socket)
{
	int type = 0;

	must(getsockopt(packet, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) }));
	say("%d", type);
}
SET(raw_socket)
{
	raw = must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}
GET(raw_socket)
{
	int type = 0;

	must(getsockopt(raw, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) }));
	say("%d", type);
}
/* Nobody else uses these protocols: what comes is what has been sent here. */
static int packet_queue, raw_queue;
SET(packet_socket_queue)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET, .sll_protocol = htons(0x88b6), .sll_ifindex = 1, .sll_halen = 6
	};

	packet_queue = must(socket(AF_PACKET, SOCK_DGRAM, htons(0x88b6)));
	must(sendto(packet_queue, "packet", 6, 0, (void *)&to, sizeof(to)));
	usleep(10000);
}
GET(packet_socket_queue)
{
	say_message(packet_queue);
}
SET(raw_socket_queue)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	raw_queue = must(socket(AF_INET, SOCK_RAW, 253));
	must(sendto(raw_queue, "packet", 6, 0, (void *)&to, sizeof(to)));
	usleep(10000);
}
GET(raw_socket_queue)
{
	say("%zd", recv(raw_queue, (char[64]){ 0 }, 64, MSG_DONTWAIT));
}

static struct row socket_rows[] = {
	ROW(unix_stream_queue),
	ROW(unix_datagram_queue),
	ROW(unix_seqpacket_queue),
	ROW(unix_descriptor_in_flight),
	ROW(unix_credentials_in_flight),
	ROW(unix_shut_down),
	ROW(unix_listener),
	ROW(unix_connection_waiting),
	ROW(unix_peer_credentials),
	ROW(unix_peek_offset),
	ROW(options_unix),
	ROW(options_tcp_listener),
	ROW(options_tcp_unconnected),
	ROW(options_udp),
	ROW(options_ipv6),
	ROW(options_structured),
	ROW(socket_filter),
	ROW(tcp_backlog),
	ROW(udp_queue),
	ROW(udp_connected),
	ROW(udp_multicast_membership),
	ROW(udp6_multicast_membership),
	ROW(udp_corked_data),
	ROW(tcp_connection),
	ROW(tcp6_connection),
	ROW(tcp_urgent_data),
	ROW(tcp_half_closed),
	ROW(options_tcp_connection),
	ROW(netlink),
	ROW(packet_socket),
	ROW(packet_socket_queue),
	ROW(raw_socket),
	ROW(raw_socket_queue),
};
