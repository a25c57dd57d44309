/*
 * What a cold VERSION request costs with libcriu, CRIU's own client in C: it starts `criu swrk`, asks, reads the answer
 * and reaps CRIU.
 *
 *   libcriu-version CRIU
 *
 * For each line that comes in it does so once, and prints the nanoseconds that it took. libcriu is loaded, not linked:
 * its headers need not be there to build this.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *library;

static void *function(const char *name)
{
	void *address = dlsym(library, name);

	if (!address) {
		fprintf(stderr, "libcriu-version: %s\n", dlerror());
		exit(1);
	}
	return address;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	int (*init_opts)(void);
	int (*set_service_binary)(const char *);
	int (*get_version)(void);
	int byte;

	if (argc != 2) {
		fprintf(stderr, "usage: libcriu-version CRIU\n");
		return 2;
	}
	library = dlopen("libcriu.so.2", RTLD_NOW);
	if (!library) {
		fprintf(stderr, "libcriu-version: %s\n", dlerror());
		return 1;
	}
	init_opts = (int (*)(void))function("criu_init_opts");
	set_service_binary = (int (*)(const char *))function("criu_set_service_binary");
	get_version = (int (*)(void))function("criu_get_version");
	if (init_opts()) {
		fprintf(stderr, "libcriu-version: criu_init_opts failed\n");
		return 1;
	}
	if (set_service_binary(argv[1])) {
		fprintf(stderr, "libcriu-version: criu_set_service_binary failed\n");
		return 1;
	}
	while ((byte = getchar()) != EOF) {
		uint64_t start;
		int version;

		if (byte != '\n')
			continue;
		start = now_ns();
		version = get_version();

		if (version < 0) {
			fprintf(stderr, "libcriu-version: criu_get_version gives %d\n", version);
			return 1;
		}
		printf("%llu\n", (unsigned long long)(now_ns() - start));
		fflush(stdout);
	}
	return 0;
}
