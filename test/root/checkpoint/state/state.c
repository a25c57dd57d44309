/*
 * Holds objects of the kernel's, so that a test can compare what they are before a checkpoint and after its restore.
 * state DIRECTORY ROW...: sets each up, makes DIRECTORY/ready, waits for DIRECTORY/ask, and writes "ROW: value" lines
 * to DIRECTORY/answer. state --list: the names of all rows.
 */
#include "locks.c"
#include "time.c"
#include "files.c"
#include "sockets.c"
#include "memory.c"
#include "task.c"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static struct {
	struct row *rows;
	size_t count;
} tables[] = {
	{ lock_rows, COUNT(lock_rows) },
	{ time_rows, COUNT(time_rows) },
	{ file_rows, COUNT(file_rows) },
	{ socket_rows, COUNT(socket_rows) },
	{ memory_rows, COUNT(memory_rows) },
	{ task_rows, COUNT(task_rows) },
};

static struct row *find(const char *name)
{
	for (size_t t = 0; t < COUNT(tables); t++) {
		for (size_t i = 0; i < tables[t].count; i++) {
			if (strcmp(tables[t].rows[i].name, name) == 0)
				return &tables[t].rows[i];
		}
	}
	fprintf(stderr, "state: no row %s\n", name);
	exit(2);
}

static void answer(char **names)
{
	FILE *out = fopen(path_of("answer.new"), "w");

	if (!out)
		fail("answer.new");
	for (; *names; names++) {
		line[0] = 0;
		find(*names)->get();
		fprintf(out, "%s: %s\n", *names, line);
		fflush(out);
	}
	fclose(out);
	must(rename(path_of("answer.new"), path_of("answer")));
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t t = 0; t < COUNT(tables); t++) {
			for (size_t i = 0; i < tables[t].count; i++)
				puts(tables[t].rows[i].name);
		}
		return 0;
	}
	if (argc < 3)
		return 2;
	dir = argv[1];
	for (char **name = argv + 2; *name; name++)
		find(*name)->set();
	close(must(open(path_of("ready"), O_WRONLY | O_CREAT, 0600)));
	for (;;) {
		if (access(path_of("ask"), F_OK) == 0) {
			unlink(path_of("ask"));
			answer(argv + 2);
		}
		usleep(5000);
	}
}
