/* Mappings, and memory that is shared between processes. */
#include "row.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PAGES (8 << 20)

static char *anonymous(int prot, int flags)
{
	char *at = mmap(NULL, PAGES, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	if (prot & PROT_WRITE)
		at[4096] = 'x';
	return at;
}

/* One mapping for each advice, between two that keep it from being joined with others. */
#define ADVICE(name, advice) \
	static char *at_##name; \
	SET(name) \
	{ \
		at_##name = anonymous(PROT_READ | PROT_WRITE, 0); \
		must(madvise(at_##name, PAGES, advice)); \
	} \
	GET(name) \
	{ \
		say_smaps(at_##name, "VmFlags:"); \
	}
ADVICE(madvise_dontfork, MADV_DONTFORK)
ADVICE(madvise_dontdump, MADV_DONTDUMP)
ADVICE(madvise_wipeonfork, MADV_WIPEONFORK)
ADVICE(madvise_mergeable, MADV_MERGEABLE)
ADVICE(madvise_hugepage, MADV_HUGEPAGE)
ADVICE(madvise_nohugepage, MADV_NOHUGEPAGE)
ADVICE(madvise_sequential, MADV_SEQUENTIAL)
ADVICE(madvise_random, MADV_RANDOM)

static char *free_at, *guard_at, *sealed_at, *noreserve_at, *growing_at, *locked_at, *onfault_at, *named_at, *policy_at,
	*key_at;
SET(madvise_free)
{
	free_at = anonymous(PROT_READ | PROT_WRITE, 0);
	must(madvise(free_at, PAGES, MADV_FREE));
}
GET(madvise_free)
{
	say("%s", free_at[4096] == 'x' || free_at[4096] == 0 ? "readable" : "garbage");
}
SET(madvise_guard)
{
	guard_at = anonymous(PROT_READ | PROT_WRITE, 0);
	if (madvise(guard_at + 8192, 4096, 102 /* MADV_GUARD_INSTALL */) != 0)
		guard_at = NULL; /* before Linux 6.13 */
}
GET(madvise_guard)
{
	int ends[2];

	if (!guard_at) {
		say("unsupported");
		return;
	}
	must(pipe(ends));
	say("%zd %c", write(ends[1], guard_at + 8192, 1), guard_at[4096]);
}
SET(mseal)
{
	sealed_at = anonymous(PROT_READ | PROT_WRITE, 0);
	if (syscall(462, sealed_at, PAGES, 0) != 0)
		sealed_at = NULL;
}
GET(mseal)
{
	if (!sealed_at)
		say("unsupported");
	else
		say("%d", mprotect(sealed_at, PAGES, PROT_READ));
}
SET(map_noreserve)
{
	noreserve_at = anonymous(PROT_READ | PROT_WRITE, MAP_NORESERVE);
}
GET(map_noreserve)
{
	say_smaps(noreserve_at, "VmFlags:");
}
SET(map_growsdown)
{
	growing_at = anonymous(PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
}
GET(map_growsdown)
{
	say("%c ", growing_at[4096]);
	growing_at[0] = 'y';
	say("%c", growing_at[0]);
}
static char *none_at;
SET(map_none)
{
	none_at = anonymous(PROT_READ | PROT_WRITE, 0);
	must(mprotect(none_at, PAGES, PROT_NONE));
}
GET(map_none)
{
	say_smaps(none_at, "VmFlags:");
	must(mprotect(none_at, PAGES, PROT_READ));
	say(" %c", none_at[4096]);
}
SET(mlock)
{
	locked_at = anonymous(PROT_READ | PROT_WRITE, 0);
	must(mlock(locked_at, 65536));
}
GET(mlock)
{
	say_smaps(locked_at, "VmFlags:");
}
SET(mlock_onfault)
{
	onfault_at = anonymous(PROT_READ | PROT_WRITE, 0);
	must(mlock2(onfault_at, PAGES, MLOCK_ONFAULT));
}
/* Whether it has faulted in what nobody touched. */
GET(mlock_onfault)
{
	say_smaps(onfault_at, "VmFlags:");
	say(" ");
	say_smaps(onfault_at, "Rss:");
}
SET(mlockall_future)
{
	must(mlockall(MCL_FUTURE));
}
GET(mlockall_future)
{
	char *at = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	say_smaps(at, "Locked:");
}
SET(mapping_name)
{
	named_at = anonymous(PROT_READ | PROT_WRITE, 0);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named_at, PAGES, "a name");
}
GET(mapping_name)
{
	say("%d", strstr(contents("/proc/self/maps"), "[anon:a name]") != NULL);
}
static char *named_shared;
SET(mapping_name_shared)
{
	named_shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	named_shared[0] = 's';
}
GET(mapping_name_shared)
{
	say("%c ", named_shared[0]);
	say_smaps(named_shared, "VmFlags:");
}
SET(memory_policy)
{
	unsigned long nodes = 1;

	policy_at = anonymous(PROT_READ | PROT_WRITE, 0);
	syscall(SYS_mbind, policy_at, PAGES, 2 /* MPOL_BIND */, &nodes, 64, 0);
}
GET(memory_policy)
{
	int mode = -1;

	syscall(SYS_get_mempolicy, &mode, NULL, 0, policy_at, 2 /* MPOL_F_ADDR */);
	say("%d", mode);
}
SET(memory_policy_task)
{
	syscall(SYS_set_mempolicy, 1 /* MPOL_PREFERRED */, (unsigned long[]){ 1 }, 64);
}
GET(memory_policy_task)
{
	int mode = -1;

	syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0);
	say("%d", mode);
}
SET(protection_key)
{
	int key = pkey_alloc(0, 0);

	key_at = anonymous(PROT_READ | PROT_WRITE, 0);
	if (key >= 0)
		pkey_mprotect(key_at, PAGES, PROT_READ | PROT_WRITE, key);
}
GET(protection_key)
{
	say_smaps(key_at, "ProtectionKey:");
}
static int memfd, memfd_cloexec, memfd_private;
SET(memfd)
{
	memfd = must(memfd_create("state", MFD_ALLOW_SEALING));
	must(write(memfd, "in memory", 9));
	must(fchmod(memfd, 0640));
}
GET(memfd)
{
	char text[16] = "";
	struct stat st;

	must(fstat(memfd, &st));
	pread(memfd, text, 15, 0);
	say("%s %o at %ld", text, st.st_mode & 07777, (long)lseek(memfd, 0, SEEK_CUR));
}
SET(memfd_seals)
{
	memfd_cloexec = must(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	must(ftruncate(memfd_cloexec, 100));
	must(fcntl(memfd_cloexec, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
}
GET(memfd_seals)
{
	say("%x %x", fcntl(memfd_cloexec, F_GET_SEALS), fcntl(memfd_cloexec, F_GETFD));
}
static char *memfd_map;
SET(memfd_mapped)
{
	memfd_private = must(memfd_create("mapped", 0));
	must(ftruncate(memfd_private, 8192));
	memfd_map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_private, 0);
	strcpy(memfd_map, "both");
	close(memfd_private);
}
GET(memfd_mapped)
{
	say("%s", memfd_map);
}
SET(memfd_noexec)
{
	memfd_private = memfd_create("noexec", 8 /* MFD_NOEXEC_SEAL */);
}
GET(memfd_noexec)
{
	struct stat st = { 0 };

	fstat(memfd_private, &st);
	say("%o %x", st.st_mode & 07777, fcntl(memfd_private, F_GET_SEALS));
}

static int shm, sem, msg;
static char *shm_at;
SET(sysv_shm)
{
	shm = must(shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600));
	shm_at = shmat(shm, NULL, 0);
	strcpy(shm_at, "shared");
	must(shmctl(shm, IPC_RMID, NULL));
}
GET(sysv_shm)
{
	say("%s", shm_at);
}
static const char *const ipc_keys = "/state";
SET(sysv_semaphore)
{
	key_t key = ftok(dir, 's');

	sem = must(semget(key, 1, IPC_CREAT | 0600));
	must(semctl(sem, 0, SETVAL, 5));
	must(semop(sem, &(struct sembuf){ 0, -2, 0 }, 1));
}
GET(sysv_semaphore)
{
	say("%d", semctl(sem, 0, GETVAL));
}
SET(sysv_message)
{
	struct {
		long type;
		char text[8];
	} message = { 3, "queued" };

	msg = must(msgget(ftok(dir, 'm'), IPC_CREAT | 0600));
	must(msgsnd(msg, &message, 7, 0));
}
GET(sysv_message)
{
	struct {
		long type;
		char text[8];
	} message = { 0 };

	msgrcv(msg, &message, 8, 0, IPC_NOWAIT);
	say("%ld %s", message.type, message.text);
}
static int undo;
SET(sysv_semaphore_undo)
{
	undo = must(semget(ftok(dir, 'u'), 1, IPC_CREAT | 0600));
	must(semctl(undo, 0, SETVAL, 5));
	must(semop(undo, &(struct sembuf){ 0, -2, SEM_UNDO }, 1));
}
/* Its end gives back what it took: a restored process that has ended already has done so. */
GET(sysv_semaphore_undo)
{
	say("%d", semctl(undo, 0, GETVAL));
}
static mqd_t queue;
SET(posix_message_queue)
{
	char *name;

	if (asprintf(&name, "%s-%d", ipc_keys, getpid()) < 0)
		fail("asprintf");
	queue = must(mq_open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, NULL));
	must(mq_unlink(name));
	must(mq_send(queue, "message", 8, 1));
}
GET(posix_message_queue)
{
	char text[8192] = "";

	say("%zd %s", mq_receive(queue, text, sizeof(text), NULL), text);
}
static int shm_file;
SET(posix_shm)
{
	char *name;

	if (asprintf(&name, "%s-%d", ipc_keys, getpid()) < 0)
		fail("asprintf");
	shm_file = must(shm_open(name, O_RDWR | O_CREAT, 0600));
	must(ftruncate(shm_file, 4096));
	shm_at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shm_file, 0);
	must(shm_unlink(name));
	strcpy(shm_at, "unlinked");
}
GET(posix_shm)
{
	say("%s", shm_at);
}
static int uffd;
SET(userfaultfd)
{
	uffd = must(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
}
GET(userfaultfd)
{
	say("%d", fcntl(uffd, F_GETFD));
}
static int ring;
SET(io_uring)
{
	uint32_t params[30] = { 0 };

	ring = must(syscall(425, 4, params));
}
GET(io_uring)
{
	say("%d", fcntl(ring, F_GETFD));
}
static unsigned long aio;
SET(aio_context)
{
	must(syscall(SYS_io_setup, 8, &aio));
}
GET(aio_context)
{
	struct {
		uint64_t data, object;
		int64_t result, result2;
	} event;

	say("%ld", syscall(SYS_io_getevents, aio, 0, 1, &event, &(struct timespec){ 0, 0 }));
}
static int perf;
SET(perf_event)
{
	uint32_t attributes[32] = { 1 /* software */, 128 };

	perf = must(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
}
GET(perf_event)
{
	say("%d", fcntl(perf, F_GETFD));
}

static struct row memory_rows[] = {
	ROW(madvise_dontfork),
	ROW(madvise_dontdump),
	ROW(madvise_wipeonfork),
	ROW(madvise_mergeable),
	ROW(madvise_hugepage),
	ROW(madvise_nohugepage),
	ROW(madvise_sequential),
	ROW(madvise_random),
	ROW(madvise_free),
	ROW(madvise_guard),
	ROW(mseal),
	ROW(map_noreserve),
	ROW(map_growsdown),
	ROW(map_none),
	ROW(mlock),
	ROW(mlock_onfault),
	ROW(mlockall_future),
	ROW(mapping_name),
	ROW(mapping_name_shared),
	ROW(memory_policy),
	ROW(memory_policy_task),
	ROW(protection_key),
	ROW(memfd),
	ROW(memfd_seals),
	ROW(memfd_mapped),
	ROW(memfd_noexec),
	ROW(sysv_shm),
	ROW(sysv_semaphore),
	ROW(sysv_message),
	ROW(sysv_semaphore_undo),
	ROW(posix_message_queue),
	ROW(posix_shm),
	ROW(userfaultfd),
	ROW(io_uring),
	ROW(aio_context),
	ROW(perf_event),
};
