/*
 * vforker FILE: blocks in vfork until its child is killed, then counts in FILE for ever. Until then the two share
 * their memory, which CRIU cannot dump.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int file = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
	volatile uint64_t *counter;

	if (file < 0 || ftruncate(file, 8) != 0)
		return 1;
	counter = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	for (;; usleep(1000))
		++*counter;
}
