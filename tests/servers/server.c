/*
 * A server that accepts on one socket, by epoll.
 *
 *   server PORT [--register-first | --register-first-and-modify]
 *
 * --register-first: the socket is in the epoll set before it is bound, and
 * nothing is said to epoll about it after that.
 * --register-first-and-modify: the same, but without an interest, which is set
 * once it listens: what Netty's epoll transport does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void control(int epoll, int operation, int fd, unsigned events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (epoll_ctl(epoll, operation, fd, &event) < 0)
		fail("epoll_ctl");
}

/* Reads up to the empty line, says who this is and closes the connection. */
static void answer(int connection)
{
	const char *slot = getenv("CLINIT_SLOT");
	char request[8192], response[256];
	size_t length = 0;

	while (length < sizeof request - 1) {
		ssize_t part = read(connection, request + length, sizeof request - 1 - length);

		if (part <= 0)
			break;
		length += (size_t)part;
		request[length] = '\0';
		if (strstr(request, "\r\n\r\n")) {
			int size = snprintf(response, sizeof response,
					    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npid=%d slot=%s\n",
					    (int)getpid(), slot ? slot : "-");

			if (send(connection, response, (size_t)size, MSG_NOSIGNAL) < 0)
				perror("server: send");
			break;
		}
	}
	close(connection);
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int registers_first = 0, modifies = 0, one = 1;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (epoll < 0)
		fail("epoll_create1");
	if (listener < 0)
		fail("socket");
	if (count > 1)
		address.sin_port = htons((unsigned short)atoi(arguments[1]));
	if (count > 2) {
		modifies = !strcmp(arguments[2], "--register-first-and-modify");
		registers_first = modifies || !strcmp(arguments[2], "--register-first");
	}
	if (!address.sin_port || count > 3 || (count == 3 && !registers_first)) {
		fprintf(stderr, "usage: server PORT [--register-first | --register-first-and-modify]\n");
		return 2;
	}

	if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
		fail("SO_REUSEADDR");
	if (registers_first)
		control(epoll, EPOLL_CTL_ADD, listener, modifies ? EPOLLET : EPOLLIN);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
		fail("bind");
	if (listen(listener, 128) < 0)
		fail("listen");
	if (modifies)
		control(epoll, EPOLL_CTL_MOD, listener, EPOLLIN | EPOLLET);
	else if (!registers_first)
		control(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);

	for (;;) {
		struct epoll_event event;
		int connection;

		if (epoll_wait(epoll, &event, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			fail("epoll_wait");
		}
		while ((connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
			answer(connection);
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			fail("accept4");
	}
}
