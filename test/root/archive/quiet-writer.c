/*
 * quiet-writer FILE map|aio: holds FILE open for writing, and once a byte comes on stdin changes it in a way of which
 * the kernel tells nobody before the file is closed; says so on stdout, and waits for the end of stdin.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char data[4096];

static int write_mapped(int fd)
{
	char *at = mmap(0, sizeof(data), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return 1;
	memcpy(at, data, sizeof(data));
	return munmap(at, sizeof(data));
}

static int write_later(int fd)
{
	aio_context_t context = 0;
	struct iocb io = {
		.aio_fildes = fd, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)data, .aio_nbytes = sizeof(data)
	};
	struct iocb *ios[] = { &io };
	struct io_event event;

	return syscall(SYS_io_setup, 1, &context) != 0 || syscall(SYS_io_submit, context, 1, ios) != 1 ||
		syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1 || event.res != sizeof(data);
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR);
	char byte;

	memset(data, 'q', sizeof(data));
	if (fd < 0 || write(1, "open\n", 5) != 5 || read(0, &byte, 1) != 1)
		return 1;
	if (strcmp(argv[2], "map") == 0 ? write_mapped(fd) : write_later(fd))
		return 2;
	if (write(1, "done\n", 5) != 5)
		return 3;
	return read(0, &byte, 1) != 0;
}
