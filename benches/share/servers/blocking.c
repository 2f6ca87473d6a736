/* A server of one connection at a time: a blocking accept loop. `GET /N` is
 * answered after N microseconds of sleep, as by a database that is waited for. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int own_socket(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    perror("bind");
    exit(1);
  }
  return fd;
}

int main(void) {
  int on_stdin = getenv("LISTEN_ON_STDIN") != NULL;
  int listener = on_stdin ? 0 : own_socket(atoi(getenv("PORT")));
  if (listen(listener, 1024) != 0) {
    perror("listen");
    return 1;
  }
  char path[4096], answer[256];
  snprintf(path, sizeof path, "%s/%d", getenv("READY"), getpid());
  close(open(path, O_CREAT | O_WRONLY, 0600));
  char body[32];
  int length = snprintf(body, sizeof body, "%d\n", getpid());
  length = snprintf(answer, sizeof answer,
                    "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                    length, body);
  signal(SIGPIPE, SIG_IGN);
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    char request[4096];
    size_t read_so_far = 0;
    request[0] = 0;
    while (!strstr(request, "\r\n\r\n")) {
      ssize_t n = read(connection, request + read_so_far, sizeof request - 1 - read_so_far);
      if (n <= 0) break;
      read_so_far += n;
      request[read_so_far] = 0;
    }
    long micros = strncmp(request, "GET /", 5) == 0 ? atol(request + 5) : 0;
    if (micros > 0) {
      struct timespec time = {micros / 1000000, micros % 1000000 * 1000};
      nanosleep(&time, NULL);
    }
    if (read_so_far > 0 && write(connection, answer, length) < 0) perror("write");
    close(connection);
  }
}
