/* Maps a file shared and writable, reads or writes its first page first, then writes "written" there, and unmaps.
 * Usage: mapper FILE read-first|write-first */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;
	volatile char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char first;

	if (at == MAP_FAILED)
		return 2;
	if (strcmp(argv[2], "read-first") == 0)
		first = at[0], (void)first;
	memcpy((char *)at, "written", 7);
	munmap((void *)at, 4096);
	return 0;
}
