/*
 * SHA-256 (FIPS 180-4) of our own, so that the addon needs no symbol of the host's OpenSSL: one binary then serves
 * every Node.js, and any other host of Node-API. It takes the CPU's instructions for SHA-256 where there are some.
 */
#ifndef STILLFRAME_DIGEST_H
#define STILLFRAME_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define SF_DIGEST 32
/* Of a member: one of its headers and padding, then one of its data. */
#define SF_MEMBER_DIGESTS (2 * SF_DIGEST)
#define SF_DIGEST_BLOCK 64

struct sf_digest {
	uint32_t state[8];
	uint64_t bytes;
	unsigned char block[SF_DIGEST_BLOCK]; /* bytes % SF_DIGEST_BLOCK of them wait here for the rest of theirs */
};

/* NULL when memory runs out. */
struct sf_digest *sf_digest_new(void);
void sf_digest_free(struct sf_digest *digest);
void sf_digest_update(struct sf_digest *digest, const void *data, size_t len);
/* Ends one digest and begins the next. */
void sf_digest_take(struct sf_digest *digest, unsigned char out[SF_DIGEST]);
/* One digest of two pieces, either of which may be empty. */
void sf_digest_of(
	struct sf_digest *digest, const void *a, size_t a_len, const void *b, size_t b_len, unsigned char out[SF_DIGEST]);

/*
 * For the test of each: "portable", "sha-ni", "armv8", NULL for the fastest here. 0, or ENOTSUP where the CPU has none
 * such.
 */
int sf_digest_use(const char *implementation);

#endif
