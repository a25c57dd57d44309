#include "digest.h"
#include "digest-blocks.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t initial[8] = {
	0x6a09e667,
	0xbb67ae85,
	0x3c6ef372,
	0xa54ff53a,
	0x510e527f,
	0x9b05688c,
	0x1f83d9ab,
	0x5be0cd19,
};

/* Chosen at the first digest. Threads that choose at the same time choose alike. */
static sf_digest_blocks *chosen;

static sf_digest_blocks *blocks_function(void)
{
	sf_digest_blocks *function = __atomic_load_n(&chosen, __ATOMIC_RELAXED);

	if (!function) {
		sf_digest_use(NULL);
		function = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
	}
	return function;
}

int sf_digest_use(const char *implementation)
{
	sf_digest_blocks *function = NULL;

#ifdef SF_DIGEST_CPU
	if ((!implementation || !strcmp(implementation, SF_DIGEST_CPU)) && sf_digest_cpu_has_it())
		function = sf_digest_blocks_cpu;
#endif
	if (!function && (!implementation || !strcmp(implementation, "portable")))
		function = sf_digest_blocks_portable;
	if (!function)
		return ENOTSUP;
	__atomic_store_n(&chosen, function, __ATOMIC_RELAXED);
	return 0;
}

static void begin(struct sf_digest *digest)
{
	memcpy(digest->state, initial, sizeof(initial));
	digest->bytes = 0;
}

struct sf_digest *sf_digest_new(void)
{
	struct sf_digest *digest = malloc(sizeof(*digest));

	if (digest)
		begin(digest);
	return digest;
}

void sf_digest_free(struct sf_digest *digest)
{
	free(digest);
}

void sf_digest_update(struct sf_digest *digest, const void *data, size_t len)
{
	const unsigned char *from = data;
	size_t waiting = digest->bytes % SF_DIGEST_BLOCK, blocks;

	if (len == 0)
		return; /* `data` may be NULL then */
	digest->bytes += len;
	if (waiting > 0) {
		size_t part = SF_DIGEST_BLOCK - waiting;

		if (part > len)
			part = len;
		memcpy(digest->block + waiting, from, part);
		from += part;
		len -= part;
		if (waiting + part < SF_DIGEST_BLOCK)
			return;
		blocks_function()(digest->state, digest->block, 1);
	}
	blocks = len / SF_DIGEST_BLOCK;
	if (blocks > 0)
		blocks_function()(digest->state, from, blocks);
	memcpy(digest->block, from + blocks * SF_DIGEST_BLOCK, len % SF_DIGEST_BLOCK);
}

void sf_digest_take(struct sf_digest *digest, unsigned char out[SF_DIGEST])
{
	static const unsigned char padding[SF_DIGEST_BLOCK] = { 0x80 };
	uint64_t bits = htobe64(digest->bytes * 8);
	size_t waiting = digest->bytes % SF_DIGEST_BLOCK, before_length = SF_DIGEST_BLOCK - sizeof(bits);

	sf_digest_update(
		digest, padding, (waiting < before_length ? before_length : SF_DIGEST_BLOCK + before_length) - waiting);
	sf_digest_update(digest, &bits, sizeof(bits));
	for (size_t i = 0; i < 8; i++) {
		uint32_t word = htobe32(digest->state[i]);

		memcpy(out + 4 * i, &word, sizeof(word));
	}
	begin(digest);
}

void sf_digest_of(
	struct sf_digest *digest, const void *a, size_t a_len, const void *b, size_t b_len, unsigned char out[SF_DIGEST])
{
	sf_digest_update(digest, a, a_len);
	sf_digest_update(digest, b, b_len);
	sf_digest_take(digest, out);
}
