/* Prints, in nanoseconds: a getppid, a read of nothing, a bind, a listen.
 * The median of batches for the first two, of single calls for the others. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BATCHES = 51, CALLS = 5000, SOCKETS = 1000 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static int order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *times, int count) {
  qsort(times, count, sizeof *times, order);
  return times[count / 2];
}

int main(void) {
  static double binds[SOCKETS], listens[SOCKETS];
  double getppids[BATCHES], reads[BATCHES];
  int null = open("/dev/null", O_RDONLY);
  char byte;
  for (int i = 0; i < BATCHES; i++) {
    double start = now();
    for (int j = 0; j < CALLS; j++) syscall(SYS_getppid);
    getppids[i] = (now() - start) / CALLS;
    start = now();
    for (int j = 0; j < CALLS; j++) {
      if (read(null, &byte, 1) != 0) return 1;
    }
    reads[i] = (now() - start) / CALLS;
  }
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(atoi(getenv("PORT")))};
  for (int i = 0; i < SOCKETS; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    double start = now();
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
      perror("bind");
      return 1;
    }
    double bound = now();
    if (listen(fd, 16) != 0) {
      perror("listen");
      return 1;
    }
    listens[i] = now() - bound;
    binds[i] = bound - start;
    close(fd);
  }
  printf("%.1f %.1f %.0f %.0f\n", median(getppids, BATCHES), median(reads, BATCHES),
         median(binds, SOCKETS), median(listens, SOCKETS));
  return 0;
}
