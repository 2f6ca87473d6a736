/* Makes orphans: `orphans burst|stream COUNT`. Begins when it reads a line,
 * says so when all of them have lost their parent, and waits to be killed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

/* A child that has this many children, which end at once and are not waited
 * for: when it ends itself, they are somebody else's to reap. */
static void leave_behind(int count)
{
	pid_t parent = fork();
	if (parent < 0)
		fail("fork");
	if (parent > 0) {
		if (waitpid(parent, NULL, 0) != parent)
			fail("waitpid");
		return;
	}
	while (count-- > 0) {
		pid_t child = fork();
		if (child < 0)
			fail("fork");
		if (child == 0)
			_exit(0);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[2]) : 0;
	if (count < 1)
		return 2;
	if (getchar() == EOF)
		return 1;
	if (strcmp(argv[1], "burst") == 0)
		leave_behind(count);
	else
		for (int i = 0; i < count; i++)
			leave_behind(1);
	puts("made");
	fflush(stdout);
	pause();
	return 0;
}
